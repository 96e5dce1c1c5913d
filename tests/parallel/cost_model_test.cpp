// The cost model against worked figures: 7B (H = 32, D = 128) at 450 Tflop/s and 400 GB/s unless
// said otherwise.
#include "parallel/cost_model.h"

#include <cstdio>
#include <string>

#include <gtest/gtest.h>

namespace ringbolt {
namespace {

using Mask = AttentionSlice::Mask;

AttentionJob llama_7b(int64_t tokens, int ranks, int64_t kv_heads = 32) {
  return {.tokens = tokens,
          .heads = 32,
          .kv_heads = kv_heads,
          .head_dim = 128,
          .dtype = DType::bf16,
          .ranks = ranks};
}

MachineRates rates(double flops, double inner, double outer = 50e9, int ranks_per_node = 8) {
  return {.forward_flops = flops,
          .backward_flops = flops,
          .inner = {inner, 0},
          .outer = {outer, 0},
          .ranks_per_node = ranks_per_node};
}

AttentionCandidate ring(const AttentionJob& job, const MachineRates& at,
                        RingBackward side = RingBackward::keys) {
  return predict_attention(job, at, {.inner = job.ranks}, {AttentionStrategy::ring, side});
}

TEST(CostModel, RingStepOf16KTokensMatchesTheWorkedFigures) {
  const MachineRates nvlink = rates(450e12, 400e9);
  struct Row {
    int ranks;
    double compute_us, transfer_us;
    bool hidden;
  };
  for (const Row& row : {Row{2, 1222, 336, true}, Row{4, 305, 168, true}, Row{8, 76, 84, false}}) {
    const AttentionCandidate c = ring(llama_7b(16384, row.ranks), nvlink);
    EXPECT_NEAR(c.step_compute_seconds * 1e6, row.compute_us, 0.6) << row.ranks;
    EXPECT_NEAR(c.step_transfer_seconds * 1e6, row.transfer_us, 0.6) << row.ranks;
    EXPECT_EQ(c.hidden, row.hidden) << row.ranks;
  }
  MachineRates more = nvlink;
  more.ranks_per_node = 16;
  EXPECT_NEAR(ring(llama_7b(16384, 16), more).step_compute_seconds * 1e6, 19, 0.6);
  EXPECT_NEAR(ring(llama_7b(16384, 16), more).step_transfer_seconds * 1e6, 42, 0.6);
}

TEST(CostModel, AStepCostsTheLongerOfAttentionAndTransfer) {
  const AttentionCandidate wide = ring(llama_7b(16384, 2), rates(450e12, 400e9));
  EXPECT_NEAR(wide.forward.seconds, 2 * wide.step_compute_seconds, 1e-9);
  EXPECT_NEAR(wide.forward.exposed_seconds, 0, 1e-12);
  const AttentionCandidate tight = ring(llama_7b(16384, 8), rates(450e12, 400e9));
  EXPECT_NEAR(tight.forward.seconds, 7 * tight.step_transfer_seconds + tight.step_compute_seconds,
              1e-9);
  EXPECT_NEAR(tight.forward.bytes / 400e9 * 1e6, 587, 1);
  // Without overlap all transfers are exposed.
  MachineRates serial = rates(450e12, 400e9);
  serial.inner.overlap = 0;
  EXPECT_NEAR(ring(llama_7b(16384, 8), serial).forward.exposed_seconds * 1e6, 587, 1);
}

TEST(CostModel, AllToAllMovesAQuarterOfTheRingsBytesAndExposesThem) {
  const AttentionJob job = llama_7b(16384, 8);
  const AttentionCandidate c = predict_attention(job, rates(450e12, 400e9), {.head = 8}, {});
  EXPECT_NEAR(c.forward.exposed_seconds * 1e6, 147, 1);
  EXPECT_NEAR(c.forward.seconds, c.forward.compute_seconds + c.forward.exposed_seconds, 1e-12);
}

TEST(CostModel, RowsToHideAreThoseOfTheTable) {
  const auto rows = [](double bandwidth, Mask mask, int64_t kv_heads) {
    AttentionJob job = llama_7b(0, 1, kv_heads);
    job.mask = mask;
    return rows_to_hide(job, 600e12, bandwidth);
  };
  EXPECT_NEAR(rows(400e9, Mask::full, 32), 1500, 1);
  EXPECT_NEAR(rows(400e9, Mask::causal, 32), 3000, 1);
  EXPECT_NEAR(rows(400e9, Mask::causal, 8), 750, 1);
  EXPECT_NEAR(rows(50e9, Mask::causal, 32), 24000, 1);
  EXPECT_NEAR(rows(25e9, Mask::causal, 32), 48000, 1);
  EXPECT_NEAR(rows(12.5e9, Mask::causal, 8), 24000, 1);
}

TEST(CostModel, HidesFromThoseRowsOn) {
  for (const int64_t kv_heads : {32, 8}) {
    for (const Mask mask : {Mask::causal, Mask::full}) {
      for (const double bandwidth : {12.5e9, 50e9, 400e9}) {
        AttentionJob job = llama_7b(0, 4, kv_heads);
        job.mask = mask;
        const double bound = rows_to_hide(job, 600e12, bandwidth);
        job.tokens = static_cast<int64_t>(4 * bound * 1.01);
        EXPECT_TRUE(ring(job, rates(600e12, bandwidth)).hidden);
        job.tokens = static_cast<int64_t>(4 * bound * 0.99);
        EXPECT_FALSE(ring(job, rates(600e12, bandwidth)).hidden);
      }
    }
  }
}

TEST(CostModel, DoubleRingHidesBetweenNodesFromAnEighthOfTheRows) {
  // 24K rows over 50 GB/s in a single ring of 16; 3K where the inner ring has 8 ranks.
  const MachineRates cluster = rates(600e12, 400e9, 50e9, 8);
  const auto both = [&](int64_t rows) {
    const AttentionJob job = llama_7b(16 * rows, 16);
    return std::pair(ring(job, cluster).hidden,
                     predict_attention(job, cluster, {.outer = 2, .inner = 8},
                                       {AttentionStrategy::double_ring, {}})
                         .hidden);
  };
  EXPECT_EQ(both(24100), std::pair(true, true));
  EXPECT_EQ(both(23900), std::pair(false, true));
  EXPECT_EQ(both(3010), std::pair(false, true));
  EXPECT_EQ(both(2990), std::pair(false, false));
}

TEST(CostModel, QuerySideWinsForMultiHeadAndLosesForGroupedQueries) {
  const MachineRates slow = rates(450e12, 12.5e9);
  const auto backward = [&](int64_t kv_heads, RingBackward side) {
    return ring(llama_7b(16384, 4, kv_heads), slow, side).backward;
  };
  EXPECT_NEAR(backward(32, RingBackward::queries).bytes / backward(32, RingBackward::keys).bytes,
              2.0 / 3, 0.01);
  EXPECT_LT(backward(32, RingBackward::queries).seconds, backward(32, RingBackward::keys).seconds);
  EXPECT_GT(backward(8, RingBackward::queries).seconds, backward(8, RingBackward::keys).seconds);
}

TEST(CostModel, CountsTheBytesThatTheCommunicatorDoes) {
  const MachineRates cluster = rates(450e12, 400e9, 50e9, 4);
  int compared = 0;
  for (const int ranks : {1, 2, 4, 8, 16}) {
    for (const int64_t kv_heads : {32, 8, 2}) {
      for (const AttentionCandidate& c :
           plan_attention(llama_7b(16384, ranks, kv_heads), cluster).candidates) {
        const AttentionBytes bytes =
            attention_bytes(c.mesh, {16384 / ranks, 32, kv_heads, 128, DType::bf16}, c.choice);
        EXPECT_EQ(c.forward.bytes, static_cast<double>(bytes.forward)) << c.str();
        EXPECT_EQ(c.backward.bytes, static_cast<double>(bytes.backward)) << c.str();
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 50);
}

TEST(CostModel, ChoosesTheFastestAndSaysWhy) {
  // Long sequences hide everything: a ring. Short ones on a fast link: all-to-all, one exchange.
  MachineRates node = rates(450e12, 400e9);
  node.launch_seconds = 8e-6;
  node.inner.latency_seconds = 10e-6;
  const AttentionPlan far = plan_attention(llama_7b(1 << 20, 8), node);
  EXPECT_EQ(far.best().choice.strategy, AttentionStrategy::ring) << far.table();
  EXPECT_EQ(far.best().mesh.inner, 8) << far.table();
  EXPECT_TRUE(far.best().hidden);
  EXPECT_NE(far.reason().find("hides behind"), std::string::npos) << far.reason();
  const AttentionPlan near = plan_attention(llama_7b(8192, 8), node);
  EXPECT_GT(near.best().mesh.head, 1) << near.table();
  // Two nodes: what crosses between them must hide behind a whole inner ring, or be little.
  MachineRates cluster = rates(450e12, 400e9, 50e9, 8);
  cluster.inner.latency_seconds = cluster.outer.latency_seconds = 10e-6;
  const AttentionPlan two = plan_attention(llama_7b(65536, 16, 32), cluster);
  EXPECT_EQ(two.best().choice.strategy, AttentionStrategy::double_ring) << two.table();
  for (const AttentionPlan* plan : {&far, &near, &two}) {
    EXPECT_EQ(plan->reason().find('\n'), std::string::npos);
    std::printf("  %s\n", plan->reason().c_str());
  }
  std::fputs(two.table().c_str(), stdout);
}

TEST(CostModel, LeavesOutHeadRanksThatDoNotDivideTheHeads) {
  AttentionJob job = llama_7b(16384, 6);
  job.heads = 9;
  job.kv_heads = 3;
  for (const AttentionCandidate& c : plan_attention(job, rates(450e12, 400e9)).candidates) {
    EXPECT_TRUE(c.mesh.head == 1 || c.mesh.head == 3) << c.str();
  }
  const AttentionPlan alone = plan_attention(llama_7b(16384, 1), rates(450e12, 400e9));
  ASSERT_EQ(alone.candidates.size(), 1U);
  EXPECT_EQ(alone.best().str(), "one rank");
}

}  // namespace
}  // namespace ringbolt
