// What attention over ranks costs: bytes by the formulas, memory that does not grow with the ring,
// and which head ranks are possible.
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "parallel/bench_attention.h"
#include "parallel/head_exchange.h"
#include "parallel/threads.h"
#include "tests/parallel/attention_case.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using Mask = AttentionSlice::Mask;
using Offsets = std::vector<int64_t>;

constexpr double kTimeout = 60;

/// One rank's operands of one size, zeros, and an attention for them.
struct RankWork {
  RankWork(Backend& backend, Mesh& mesh, const Sharing& sharing, int64_t tokens, const Heads& heads,
           DType dtype)
      : layout(sharing.layout, Offsets{0, tokens}, mesh.shape().ring(), mesh.shape().head),
        rows(layout.tokens_per_rank() / mesh.shape().head),
        attention(make_distributed_attention(backend, mesh, layout, Mask::causal, sharing.choice)) {
    const auto make = [&](DType type, Shape shape) {
      Tensor x = backend.allocate(type, shape);
      backend.fill_zero(x);
      return x;
    };
    q = make(dtype, {rows, heads.query, heads.dim});
    kv = make(dtype, {rows, 2 * heads.key, heads.dim});
    dout = make(dtype, {rows, heads.query, heads.dim});
    out = make(dtype, {rows, heads.query, heads.dim});
    lse = make(DType::f32, {rows, heads.query});
    dq = make(dtype, {rows, heads.query, heads.dim});
    dkv = make(dtype, {rows, 2 * heads.key, heads.dim});
  }
  void forward() { attention->forward(0, q, kv, out, lse); }
  void backward() { attention->backward(0, q, kv, dout, out, lse, dq, dkv); }

  SequenceLayout layout;
  int64_t rows;
  std::unique_ptr<Attention> attention;
  Tensor q, kv, dout, out, lse, dq, dkv;
};

TEST(AttentionBytes, AreWhatTheCommunicatorCounts) {
  int compared = 0;
  for (const int ranks : {1, 2, 3, 4, 8}) {
    for (const Heads& heads : {Heads{8, 8, 8}, Heads{8, 2, 8}, Heads{6, 3, 10}}) {
      for (const DType dtype : {DType::f32, DType::bf16}) {
        run_thread_ranks(ranks, kTimeout, [&](Communicator& world) {
          const std::unique_ptr<Backend> backend = make_cpu_backend(1);
          for (const Sharing& sharing : all_sharings(ranks, heads)) {
            if (sharing.layout != LayoutKind::zigzag) continue;
            Mesh mesh(world, sharing.mesh);
            RankWork work(*backend, mesh, sharing, 50, heads, dtype);
            const AttentionBytes expected = attention_bytes(sharing.mesh,
                                                            {.tokens_per_rank = work.rows,
                                                             .heads = heads.query,
                                                             .kv_heads = heads.key,
                                                             .head_dim = heads.dim,
                                                             .dtype = dtype},
                                                            sharing.choice);
            const int64_t& counted = world.context().traffic.received_bytes;
            const int64_t start = counted;
            work.forward();
            const int64_t middle = counted;
            work.backward();
            EXPECT_EQ(middle - start, expected.forward) << sharing.str();
            EXPECT_EQ(counted - middle, expected.backward) << sharing.str();
            for (const AttentionDType other : {AttentionDType::bf16, AttentionDType::fp8}) {
              Sharing in_other = sharing;
              in_other.choice.dtype = other;
              RankWork forward(*backend, mesh, in_other, 50, heads, dtype);
              const AttentionBytes foreseen = attention_bytes(sharing.mesh,
                                                              {.tokens_per_rank = forward.rows,
                                                               .heads = heads.query,
                                                               .kv_heads = heads.key,
                                                               .head_dim = heads.dim,
                                                               .dtype = dtype},
                                                              in_other.choice);
              const int64_t before = counted;
              forward.forward();
              EXPECT_EQ(counted - before, foreseen.forward)
                  << sharing.str() << ", " << name_of(other);
              EXPECT_THROW(forward.backward(), UsageError);
            }
            if (world.rank() == 0) ++compared;
          }
        });
      }
    }
  }
  EXPECT_GT(compared, 100);
}

TEST(AttentionBytes, FollowTheFormulasOfTheLiterature) {
  // 7B: H = K = 32, D = 128, h = 4096 columns, c = 2048 rows on each of 8 ranks, e = 2 bytes.
  const AttentionProblem mha{2048, 32, 32, 128, DType::bf16};
  const MeshShape ring{.inner = 8};
  const int64_t ch = 2048 * 4096;
  const auto bytes = [&](const MeshShape& mesh, const AttentionProblem& problem,
                         RingBackward side) {
    return attention_bytes(mesh, problem, {AttentionStrategy::ring, side});
  };
  EXPECT_EQ(bytes(ring, mha, RingBackward::keys).forward, 7 * 2 * ch * 2);
  EXPECT_EQ(bytes(ring, mha, RingBackward::keys).backward, 7 * 12 * ch);  // bf16 kv, f32 dkv
  // q, dout in bf16 and dq in f32, besides lse and delta: a third less than the key side.
  EXPECT_EQ(bytes(ring, mha, RingBackward::queries).backward, 7 * (8 * ch + 2 * 2048 * 32 * 4));
  const AttentionProblem gqa{2048, 32, 8, 128, DType::bf16};
  EXPECT_LT(bytes(ring, gqa, RingBackward::keys).backward,
            bytes(ring, gqa, RingBackward::queries).backward);
  // All-to-all: (2 + 2g) c h e (P - 1) / P, and lse.
  const MeshShape heads{.head = 8};
  EXPECT_EQ(bytes(heads, mha, {}).forward, 7 * 4 * ch * 2 / 8 + 7 * 2048 * 4 * 4);
}

TEST(AttentionTiming, CountsTheBytesOfOnePass) {
  const AttentionJob job{.tokens = 50,
                         .heads = 4,
                         .kv_heads = 2,
                         .head_dim = 8,
                         .dtype = DType::bf16,
                         .mask = Mask::full,
                         .ranks = 4};
  const MeshShape shape{.inner = 2, .head = 2};
  run_thread_ranks(4, kTimeout, [&](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_cpu_backend(1);
    const AttentionTiming timing =
        time_attention(*backend, world, job, LayoutKind::striped, shape, {}, 1e-3);
    // 50 tokens on two ring positions: 25, padded to 26 for two head ranks.
    const AttentionBytes bytes = attention_bytes(shape, {13, 4, 2, 8, DType::bf16}, {});
    EXPECT_EQ(timing.forward.bytes, bytes.forward);
    EXPECT_EQ(timing.backward.bytes, bytes.backward);
    EXPECT_GT(timing.forward.seconds, 0);
  });
}

/// The most bytes that one rank holds besides operands and results.
std::pair<int64_t, int64_t> step_memory(int ranks, const Sharing& sharing, DType dtype) {
  std::pair<int64_t, int64_t> most{0, 0};
  run_thread_ranks(ranks, kTimeout, [&](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_cpu_backend(1);
    Mesh mesh(world, sharing.mesh);
    RankWork work(*backend, mesh, sharing, 128 * ranks, {4, 2, 16}, dtype);
    const auto peak = [&](auto&& pass) {
      backend->reset_peak_memory();
      const int64_t live = backend->memory().live_bytes;
      pass();
      return backend->memory().peak_bytes - live;
    };
    const int64_t forward = peak([&] { work.forward(); });
    const int64_t backward = peak([&] { work.backward(); });
    if (world.rank() == 0) most = {forward, backward};
  });
  return most;
}

TEST(RingMemory, IsConstantInTheNumberOfRanks) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const RingBackward side : {RingBackward::keys, RingBackward::queries}) {
      const auto on = [&](int ranks) {
        return step_memory(
            ranks, {{.inner = ranks}, LayoutKind::zigzag, {AttentionStrategy::ring, side}}, dtype);
      };
      const auto [forward, backward] = on(2);
      EXPECT_GT(forward, 0);
      std::printf("  %s, %s, 128 tokens a rank: forward %lld bytes, backward %lld on 2 ranks",
                  name_of(dtype).c_str(), side == RingBackward::keys ? "keys" : "queries",
                  static_cast<long long>(forward), static_cast<long long>(backward));
      for (const int ranks : {4, 8}) {
        const auto [more_forward, more_backward] = on(ranks);
        std::printf("; %lld, %lld on %d", static_cast<long long>(more_forward),
                    static_cast<long long>(more_backward), ranks);
        EXPECT_NEAR(static_cast<double>(more_forward), static_cast<double>(forward),
                    0.02 * static_cast<double>(forward));
        EXPECT_NEAR(static_cast<double>(more_backward), static_cast<double>(backward),
                    0.02 * static_cast<double>(backward));
      }
      std::puts("");
    }
  }
}

TEST(HeadRanks, AreRefusedWithTheNumbersThatWork) {
  EXPECT_NO_THROW(check_head_ranks(32, 8, 16));
  EXPECT_NO_THROW(check_head_ranks(32, 32, 32));
  try {
    check_head_ranks(32, 8, 3);
    ADD_FAILURE() << "3 head ranks for 32 heads";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("Head ranks that work: 1, 2, 4, 8, 16, 32."),
              std::string::npos)
        << error.what();
  }
  EXPECT_THROW(check_head_ranks(12, 3, 2), UsageError);  // halves a key/value head
  EXPECT_THROW(check_head_ranks(8, 8, 16), UsageError);
}

TEST(HeadRanks, AreCheckedWhereAttentionRuns) {
  EXPECT_THROW(
      run_thread_ranks(
          4, kTimeout,
          [](Communicator& world) {
            const std::unique_ptr<Backend> backend = make_cpu_backend(1);
            Mesh mesh(world, {.head = 4});
            RankWork work(*backend, mesh, {{.head = 4}, {}, {}}, 20, {6, 3, 8}, DType::f32);
            work.forward();
          }),
      UsageError);
}

TEST(DistributedAttentionLayout, MustFitTheMesh) {
  const auto world = make_single_communicator();
  const std::unique_ptr<Backend> backend = make_cpu_backend(1);
  Mesh mesh(*world, {});
  const SequenceLayout layout(LayoutKind::zigzag, Offsets{0, 8}, 2);
  EXPECT_THROW(
      static_cast<void>(make_distributed_attention(*backend, mesh, layout, Mask::causal, {})),
      UsageError);
}

}  // namespace
}  // namespace ringbolt
