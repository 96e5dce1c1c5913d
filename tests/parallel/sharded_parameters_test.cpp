#include "parallel/sharded_parameters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "core/base/random.h"
#include "parallel/threads.h"

namespace ringbolt {
namespace {

/// Odd widths, so that pieces end inside rows, and some ranks own nothing of small groups; CLEX's
/// network beside it.
ModelConfig odd_model() {
  ModelConfig config = model_shape("dim=24,layers=2,heads=3,ffn=37,vocab=53,tied,qkv-bias");
  config.rope_scaling = {.method = RopeMethod::clex, .factor = 4};
  return config;
}

using Values = std::vector<float>;
/// What a store holds of one kind, by tensor.
using Tensors = std::map<std::string, Values>;

struct State {
  Tensors masters, weights, m, v;
  GradientNorms norms;
  int64_t elements = 0;  ///< visited
  friend bool operator==(const State&, const State&) = default;
};

/// Adds this rank's pieces to `all`, which ranks share.
void collect(Backend& backend, ParameterStore& store, State& all) {
  static std::mutex mutex;
  const std::scoped_lock lock(mutex);
  store.for_each([&](const ParameterPiece& p) {
    const auto put = [&](ConstView view, Tensors& tensors) {
      const Values values = download_f32(backend, view);
      Values& whole = tensors[p.spec.name];
      whole.resize(static_cast<size_t>(p.spec.shape.elements()));
      std::copy(values.begin(), values.end(), whole.begin() + p.first);
    };
    put(p.master, all.masters);
    put(p.weight, all.weights);
    put(p.m, all.m);
    put(p.v, all.v);
    all.elements += p.count;
  });
}

/// Small whole numbers: any order of summation gives the same.
float gradient_of(int rank, int64_t step, int64_t micro, int64_t group, int64_t element) {
  const auto stream = static_cast<uint64_t>(((rank * 100 + step) * 100 + micro) * 100 + group);
  return static_cast<float>(
      static_cast<int64_t>(Philox(7, stream).bits(static_cast<uint64_t>(element)) % 65) - 32);
}

constexpr int64_t kMicroBatches = 3;

/// What `ranks` ranks' tokens add to a group's gradients in one micro-batch, added by one rank.
void add_gradients(Backend& backend, ParameterStore& store, int first_rank, int last_rank,
                   int64_t step, int64_t micro) {
  const std::vector<ParameterGroup> groups = parameter_groups(store.config());
  for (auto g = std::ssize(groups) - 1; g >= 0; --g) {
    const View gradients = store.gradients(g);
    Values values = download_f32(backend, gradients);
    for (const ParameterSpec& spec : groups[static_cast<size_t>(g)].tensors) {
      for (int64_t i = spec.offset; i < spec.offset + spec.shape.elements(); ++i) {
        for (int r = first_rank; r <= last_rank; ++r) {
          values[static_cast<size_t>(i)] += gradient_of(r, step, micro, g, i);
        }
      }
    }
    backend.upload(values.data(), gradients);
    store.gradients_complete(
        g, micro + 1 == kMicroBatches ? MicroBatch::last_of_step : MicroBatch::more_follow);
  }
}

/// Two steps with known gradients. The norms of the last are returned.
GradientNorms train(Backend& backend, ParameterStore& store, int first_rank, int last_rank) {
  initialise(backend, store, 5);
  GradientNorms norms;
  for (int64_t step = 1; step <= 2; ++step) {
    store.zero_gradients();
    for (int64_t micro = 0; micro < kMicroBatches; ++micro) {
      add_gradients(backend, store, first_rank, last_rank, step, micro);
    }
    norms = store.gradient_norms();
    store.update({.learning_rate = 0.01F,
                  .beta1 = 0.9F,
                  .beta2 = 0.95F,
                  .epsilon = 1e-8F,
                  .weight_decay = 0.1F,
                  .gradient_scale = 0.25F,
                  .step = step},
                 0.125F);
  }
  return norms;
}

State trained_alone(int ranks, DType dtype) {
  const auto backend = make_cpu_backend(1);
  ResidentParameters store(*backend, odd_model(), dtype, StorePurpose::training);
  State state;
  state.norms = train(*backend, store, 0, ranks - 1);
  collect(*backend, store, state);
  return state;
}

class Sharded : public ::testing::TestWithParam<std::tuple<int, ShardState, DType>> {
 protected:
  int ranks() const { return std::get<0>(GetParam()); }
  ShardState state() const { return std::get<1>(GetParam()); }
  DType dtype() const { return std::get<2>(GetParam()); }

  /// body(backend, store, rank) on every rank.
  template <class Body>
  void on_ranks(const Body& body) {
    run_thread_ranks(ranks(), 60, [&](Communicator& world) {
      const auto backend = make_cpu_backend(1);
      ShardedParameters store(*backend, world, odd_model(), dtype(), state());
      body(*backend, store, world.rank());
    });
  }
};

TEST_P(Sharded, TwoStepsAreThoseOfOneRankBitForBit) {
  const State expected = trained_alone(ranks(), dtype());
  State actual;
  on_ranks([&](Backend& backend, ShardedParameters& store, int rank) {
    const GradientNorms norms = train(backend, store, rank, rank);
    EXPECT_NEAR(norms.model, expected.norms.model, 1e-14 * expected.norms.model);
    EXPECT_NEAR(norms.rotary, expected.norms.rotary, 1e-14 * expected.norms.rotary);
    EXPECT_GT(norms.rotary, 0);
    collect(backend, store, actual);
  });
  actual.norms = expected.norms;
  EXPECT_EQ(actual.elements, odd_model().parameter_count());  // each element has one owner
  EXPECT_TRUE(actual == expected);
}

TEST_P(Sharded, WeightsAreWholeAndTheSameOnEveryRank) {
  const auto alone = make_cpu_backend(1);
  ResidentParameters expected(*alone, odd_model(), dtype(), StorePurpose::training);
  train(*alone, expected, 0, ranks() - 1);
  on_ranks([&](Backend& backend, ShardedParameters& store, int rank) {
    train(backend, store, rank, rank);
    const std::vector<ParameterGroup> groups = parameter_groups(store.config());
    for (int64_t g = 0; g < std::ssize(groups); ++g) {
      const int64_t n = groups[static_cast<size_t>(g)].elements;
      EXPECT_EQ(download_f32(backend, store.weights(g).slice_rows(0, n)),
                download_f32(*alone, expected.weights(g)))
          << "group " << g << " on rank " << rank;
    }
  });
}

TEST_P(Sharded, HoldsOnlyItsPartOfTheState) {
  on_ranks([&](Backend& backend, ShardedParameters& store, int rank) {
    train(backend, store, rank, rank);
    int64_t bytes = 0;
    for (const ParameterGroup& group : parameter_groups(store.config())) {
      const int64_t piece = ((group.elements + ranks() - 1) / ranks() + 15) / 16 * 16;
      const int64_t whole = piece * ranks();
      const DType type = group.dtype(dtype());
      const int64_t masters = type == DType::f32 ? 0 : 4 * piece;
      bytes += size_of(type) * whole + masters + 2 * 4 * piece;
      bytes += state() == ShardState::optimizer ? 4 * whole : 4 * piece;
    }
    EXPECT_EQ(backend.memory().live_bytes, bytes);
  });
}

std::string case_name(const ::testing::TestParamInfo<Sharded::ParamType>& param) {
  const auto& [ranks, state, dtype] = param.param;
  const char* name = state == ShardState::optimizer ? "_optimizer_" : "_gradients_";
  return concat(ranks, name, name_of(dtype));
}

INSTANTIATE_TEST_SUITE_P(Ranks, Sharded,
                         ::testing::Combine(::testing::Values(1, 2, 3, 4, 8),
                                            ::testing::Values(ShardState::optimizer,
                                                              ShardState::gradients),
                                            ::testing::Values(DType::f32, DType::bf16)),
                         case_name);

}  // namespace
}  // namespace ringbolt
