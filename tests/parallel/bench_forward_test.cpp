// The timed forward: that it is the whole pass on any ranks, and what is made of its times.
#include "parallel/bench_forward.h"

#include <cmath>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "core/bench/random_data.h"
#include "parallel/placement.h"
#include "parallel/threads.h"
#include "rope/method.h"
#include "rope/table.h"

namespace ringbolt {
namespace {

ModelConfig model() { return model_shape("dim=32,layers=3,heads=4,kv-heads=2,ffn=72,vocab=61"); }

/// Of rank 0 of a zigzag ring; every rank gets the same.
ForwardTiming timed(int ranks, DType dtype, int64_t tokens, const ForwardPasses& repeat,
                    const LayerProgress& progress = {}) {
  ForwardTiming result;
  run_thread_ranks(ranks, 60, [&](Communicator& world) {
    const auto backend = make_cpu_backend(1);
    ResidentParameters parameters(*backend, model(), dtype, StorePurpose::inference);
    fill_random_weights(*backend, parameters);
    Transformer transformer(*backend, parameters, 64);
    Mesh mesh(world, {.inner = ranks});
    const auto placement = make_placement(*backend, mesh, LayoutKind::zigzag, {});
    const RotaryMethod method(model());
    const ForwardTiming mine = time_forward(*backend, world, transformer, *placement,
                                            rotary_tables(*backend, method, tokens), tokens, repeat,
                                            world.rank() == 0 ? progress : LayerProgress());
    double largest = mine.seconds;
    all_reduce_largest(world, std::span(&largest, 1));
    EXPECT_EQ(mine.seconds, largest) << "the same on all ranks";
    if (world.rank() == 0) result = mine;
  });
  return result;
}

TEST(TimedForward, IsAWholePassOnAnyRanks) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const ForwardTiming alone = timed(1, dtype, 301, {});
    const ForwardTiming ring = timed(3, dtype, 301, {});
    // Weights of deviation 0.02 know nothing of the 61 tokens: logits are within some hundredths of
    // 0.
    EXPECT_NEAR(alone.loss, std::log(61.0), 0.05);
    EXPECT_GT(std::abs(alone.loss - std::log(61.0)), 1e-6) << "but they are not 0";
    // Ranks only change the order of sums: 2^-24 a term in f32, 2^-8 of logits below 0.3 where
    // activations are bf16, averaged over 301 tokens.
    EXPECT_NEAR(ring.loss, alone.loss, dtype == DType::f32 ? 1e-6 : 2e-4);
    EXPECT_LT(ring.peak_bytes, alone.peak_bytes);
    for (const ForwardTiming* timing : {&alone, &ring}) {
      EXPECT_EQ(timing->passes, 1);
      ASSERT_EQ(timing->layer_seconds.size(), 3U);
      for (const double layer : timing->layer_seconds) EXPECT_GT(layer, 0);
      EXPECT_GT(timing->table_seconds, 0);
    }
    EXPECT_LE(std::accumulate(alone.layer_seconds.begin(), alone.layer_seconds.end(),
                              alone.table_seconds),
              alone.seconds);
  }
}

TEST(TimedForward, RepeatsAsOftenAsItIsToldAndShowsTheFirstPass) {
  std::vector<int64_t> shown;
  const ForwardTiming timing =
      timed(2, DType::f32, 97, {.least = 3}, [&](int64_t done) { shown.push_back(done); });
  EXPECT_EQ(timing.passes, 3);
  EXPECT_EQ(timing.layer_seconds.size(), 3U);
  EXPECT_EQ(shown, (std::vector<int64_t>{1, 2, 3}));
}

TEST(ForwardRates, AreOfOneRankAndTheSameOnAll) {
  run_thread_ranks(3, 60, [&](Communicator& world) {
    const auto backend = make_cpu_backend(1);
    const ForwardRates rates = measure_forward_rates(*backend, world, model(), DType::f32,
                                                     AttentionDType::fp8, 64, 32, 0.001);
    std::vector<double> largest{rates.attention, rates.matrices};
    all_reduce_largest(world, std::span(largest));
    EXPECT_EQ(largest, (std::vector<double>{rates.attention, rates.matrices}));
    EXPECT_GT(rates.attention, 0);
    EXPECT_GT(rates.matrices, 0);
    EXPECT_EQ(rates.attention_tokens, 64);
    EXPECT_EQ(rates.matrix_tokens, 32);
  });
}

TEST(ForwardFloor, IsTheWorkAtTheRateOfAllRanks) {
  const ForwardRates rates = higher({8, 4, 100, 30}, {8, 4, 90, 40});
  EXPECT_EQ(rates.attention_tokens, 8);
  EXPECT_EQ(rates.matrix_tokens, 4);
  const ForwardFloor floor{{.matrices = 800, .attention = 6000}, rates, 2};
  EXPECT_EQ(floor.attention_seconds(), 30);
  EXPECT_EQ(floor.seconds_with_products(), 40);
}

}  // namespace
}  // namespace ringbolt
