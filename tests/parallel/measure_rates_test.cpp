// The probe: the same figures on all ranks, and such as a machine can have. (No timing is
// asserted.)
#include "parallel/measure_rates.h"

#include <cmath>
#include <cstdio>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "parallel/threads.h"

namespace ringbolt {
namespace {

TEST(MeasureRates, GivesAllRanksTheSameFigures) {
  const AttentionJob job{
      .tokens = 16384, .heads = 8, .kv_heads = 4, .head_dim = 64, .dtype = DType::f32, .ranks = 3};
  std::vector<MachineRates> measured(3);
  run_thread_ranks(3, 60, [&](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_cpu_backend(1);
    measured[static_cast<size_t>(world.rank())] = measure_rates(*backend, world, job);
  });
  for (const MachineRates& rates : measured) {
    EXPECT_EQ(rates.forward_flops, measured[0].forward_flops);
    EXPECT_EQ(rates.backward_flops, measured[0].backward_flops);
    EXPECT_EQ(rates.inner.bytes_per_second, measured[0].inner.bytes_per_second);
    EXPECT_EQ(rates.inner.latency_seconds, measured[0].inner.latency_seconds);
    EXPECT_EQ(rates.inner.overlap, measured[0].inner.overlap);
  }
  const MachineRates& rates = measured[0];
  EXPECT_TRUE(std::isfinite(rates.inner.bytes_per_second) && rates.inner.bytes_per_second > 0);
  EXPECT_TRUE(rates.inner.overlap >= 0 && rates.inner.overlap <= 1);
  EXPECT_TRUE(rates.forward_flops > 0 && rates.backward_flops > 0);
  std::printf("  forward %.3g flop/s, backward %.3g, link %.3g B/s, %.3g s, overlap %.2f\n  %s\n",
              rates.forward_flops, rates.backward_flops, rates.inner.bytes_per_second,
              rates.inner.latency_seconds, rates.inner.overlap,
              plan_attention(job, rates).reason().c_str());
}

TEST(MeasureRates, LeavesTheLinkOfOneRankOut) {
  const auto world = make_single_communicator();
  const std::unique_ptr<Backend> backend = make_cpu_backend(1);
  EXPECT_TRUE(std::isinf(measure_link(*backend, *world).bytes_per_second));
  const AttentionJob job{
      .tokens = 4096, .heads = 2, .kv_heads = 2, .head_dim = 16, .dtype = DType::bf16, .ranks = 1};
  const AttentionPlan plan = plan_attention(job, measure_rates(*backend, *world, job));
  EXPECT_EQ(plan.best().str(), "one rank");
  EXPECT_EQ(plan.best().forward.exposed_seconds, 0);
}

}  // namespace
}  // namespace ringbolt
