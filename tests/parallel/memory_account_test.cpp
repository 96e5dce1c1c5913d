// The account of memory against what the CPU backend measures, over policies, types, meshes and
// strategies.
#include "parallel/memory_account.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>

#include "core/base/error.h"
#include "core/generate/kv_cache.h"
#include "core/model/placement.h"
#include "core/model/transformer.h"
#include "parallel/placement.h"
#include "parallel/threads.h"
#include "rope/method.h"
#include "rope/table.h"
#include "rope/two_part.h"

namespace ringbolt {
namespace {

/// Wide enough beside its length that every kind of memory counts.
ModelConfig model() {
  return model_shape("dim=64,layers=2,heads=4,kv-heads=2,head-dim=16,ffn=172,vocab=1031");
}

/// The peak of forward and backward of one micro-batch, on one rank of `world`.
int64_t measured(Communicator& world, const TrainingShape& c) {
  const auto backend = make_cpu_backend(1);
  Mesh mesh(world, c.mesh);
  std::unique_ptr<ParameterStore> store;
  if (c.sharding) {
    store = std::make_unique<ShardedParameters>(*backend, world, c.model, c.dtype, *c.sharding);
  } else {
    store =
        std::make_unique<ResidentParameters>(*backend, c.model, c.dtype, StorePurpose::training);
  }
  initialise(*backend, *store, 1);
  const auto placement = make_placement(*backend, mesh, c.layout, c.attention);
  std::vector<int64_t> offsets;
  for (int64_t b = 0; b <= c.batch_size; ++b) offsets.push_back(b * c.context_length);
  const PlacedTokens& mine = placement->place(offsets);
  RotaryTable rotary = make_rotary_table(*backend, RotaryMethod(c.model), mine.positions);
  Tensor dangles;
  if (c.model.rope_scaling.method == RopeMethod::clex) {
    dangles = backend->allocate(DType::f32, rotary.cos.shape());
    backend->fill_zero(dangles);
    rotary.dangles = dangles;
  }
  std::vector<int32_t> ids(mine.tokens.size(), 1);
  Transformer transformer(*backend, *store);
  backend->reset_peak_memory();
  transformer.train(ids, ids, rotary, *mine.attention, c.recompute, 1e-3F,
                    MicroBatch::last_of_step);
  return backend->memory().peak_bytes;
}

/// The peak of a forward pass whose losses are wanted, on one rank of `world`.
int64_t measured(Communicator& world, const EvaluationShape& c) {
  const auto backend = make_cpu_backend(1);
  Mesh mesh(world, c.mesh);
  ResidentParameters store(*backend, c.model, c.dtype, StorePurpose::inference);
  initialise(*backend, store, 1);
  Transformer transformer(*backend, store, c.piece_tokens);
  const RotaryMethod method(c.model);
  const auto placement = place_for_method(*backend, method, [&](const Visibility& seen) {
    return make_placement(*backend, mesh, c.layout, c.attention, seen);
  });
  std::vector<int64_t> offsets;
  for (int64_t w = 0; w <= c.windows; ++w) offsets.push_back(w * c.context_length);
  const PlacedTokens& mine = placement->place(offsets);
  const RotaryTable rotary = make_rotary_table(*backend, method, mine.positions);
  const std::vector<int32_t> ids(mine.tokens.size(), 1);
  backend->reset_peak_memory();
  static_cast<void>(transformer.evaluate(ids, ids, rotary, *mine.attention));
  return backend->memory().peak_bytes;
}

MemoryAccount account_of(const TrainingShape& c) { return training_memory(c); }
MemoryAccount account_of(const EvaluationShape& c) { return evaluation_memory(c); }

class MemoryAccounts : public testing::Test {
 protected:
  template <class Shape>
  void expect_close(const Shape& c, const std::string& what) {
    const MemoryAccount account = account_of(c);
    run_thread_ranks(c.mesh.world(), 60, [&](Communicator& world) {
      const int64_t bytes = measured(world, c);
      if (world.rank() != 0) return;
      const double off = static_cast<double>(account.total() - bytes) / static_cast<double>(bytes);
      worst_ = std::max(worst_, std::abs(off));
      ++compared_;
      EXPECT_LE(std::abs(off), 0.03) << what << ": account " << account.total() << " ("
                                     << account.str() << "), measured " << bytes;
    });
  }
  void TearDown() override {
    std::printf("    %d peaks compared, at most %.2f %% apart\n", compared_, 100 * worst_);
    EXPECT_GT(compared_, 0);
  }

 private:
  double worst_ = 0;
  int compared_ = 0;
};

constexpr Recompute kPolicies[] = {Recompute::none, Recompute::block,
                                   Recompute::block_keep_attention};

TEST_F(MemoryAccounts, OfOneRankAgreeWithTheMeasuredPeaks) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Recompute recompute : kPolicies) {
      for (const int64_t length : {64, 700, 4200}) {  // beyond one piece of the feed-forward
        if (length > 4096 && dtype == DType::f32) continue;
        TrainingShape c{model(), dtype, length, 1, recompute};
        expect_close(c, concat(name_of(dtype), ", policy ", static_cast<int>(recompute),
                               ", length ", length));
      }
    }
  }
}

TEST_F(MemoryAccounts, OfTrainingClexAgree) {
  ModelConfig clex = model();
  clex.rope_scaling = {.method = RopeMethod::clex, .factor = 4};
  clex.rope_scaling.param_factor = 64;  // enough weights to show
  for (const DType dtype : {DType::f32, DType::bf16}) {
    TrainingShape c{clex, dtype, 700, 1, Recompute::block};
    expect_close(c, name_of(dtype));
    c.mesh = {1, 1, 3, 1};
    c.sharding = ShardState::optimizer;
    expect_close(c, concat(name_of(dtype), ", 3 ranks"));
  }
}

TEST_F(MemoryAccounts, OfATiedModelInBatchesAgree) {
  TrainingShape c{model_shape("dim=96,layers=2,heads=6,ffn=200,vocab=4099,tied,qkv-bias"),
                  DType::bf16, 300, 3, Recompute::block_keep_attention};
  expect_close(c, "tied");
  c.recompute = Recompute::none;
  expect_close(c, "tied, nothing recomputed");
}

TEST_F(MemoryAccounts, OfRingsAgree) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int ranks : {2, 3}) {
      for (const RingBackward backward : {RingBackward::keys, RingBackward::queries}) {
        for (const ShardState state : {ShardState::optimizer, ShardState::gradients}) {
          TrainingShape c{model(),         dtype, 301, 1, Recompute::block_keep_attention,
                          {.inner = ranks}};
          c.attention.backward = backward;
          c.sharding = state;
          expect_close(c, concat("ring of ", ranks, ", ", name_of(dtype), ", ",
                                 static_cast<int>(backward), static_cast<int>(state)));
        }
      }
    }
  }
}

TEST_F(MemoryAccounts, OfOtherStrategiesAgree) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    TrainingShape c{model(), dtype, 301, 1, Recompute::block, {.outer = 2, .inner = 2}};
    c.attention.strategy = AttentionStrategy::double_ring;
    c.sharding = ShardState::optimizer;
    expect_close(c, "double ring");
    c.mesh = {.inner = 4};
    c.attention.strategy = AttentionStrategy::all_gather;
    expect_close(c, "gather");
    c.mesh = {.inner = 2, .head = 2};
    c.attention.strategy = AttentionStrategy::ring;
    expect_close(c, "ring and heads");
    c.mesh = {.data = 2, .inner = 2};
    expect_close(c, "data ranks");
  }
}

TEST_F(MemoryAccounts, OfGenerationAgree) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const auto backend = make_cpu_backend(1);
    ResidentParameters store(*backend, model(), dtype, StorePurpose::inference);
    initialise(*backend, store, 1);
    KvCache cache(*backend, model(), dtype, 3000);
    Transformer transformer(*backend, store);
    std::vector<int64_t> positions(1000);
    std::iota(positions.begin(), positions.end(), int64_t{0});
    const RotaryTable rotary = make_rotary_table(*backend, RotaryMethod(model()), positions);
    backend->reset_peak_memory();
    static_cast<void>(transformer.next_logits(std::vector<int32_t>(1000, 1), rotary, cache));
    const auto bytes = static_cast<double>(backend->memory().peak_bytes);
    const MemoryAccount account = generation_memory({model(), dtype, 3000, 1000});
    EXPECT_NEAR(static_cast<double>(account.total()), bytes, 0.03 * bytes) << account.str();
  }
  expect_close(TrainingShape{model(), DType::f32, 64, 1, Recompute::none},
               "one more, for the count");
}

TEST_F(MemoryAccounts, OfEvaluationAgree) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int64_t length : {64, 1111, 5003}) {
      for (const int64_t piece : {int64_t{96}, int64_t{700}, kPieceTokens}) {
        expect_close(
            EvaluationShape{
                .model = model(), .dtype = dtype, .context_length = length, .piece_tokens = piece},
            concat(name_of(dtype), ", length ", length, ", pieces of ", piece));
      }
    }
    EvaluationShape c{.model = model(),
                      .dtype = dtype,
                      .context_length = 301,
                      .windows = 3,
                      .mesh = {.inner = 3}};
    c.piece_tokens = 100;
    expect_close(c, concat(name_of(dtype), ", 3 windows over a ring of 3"));
    c.attention.strategy = AttentionStrategy::all_gather;
    expect_close(c, concat(name_of(dtype), ", gathered"));
    c.attention.strategy = AttentionStrategy::ring;
    c.mesh = {.inner = 2, .head = 2};
    expect_close(c, concat(name_of(dtype), ", ring and heads"));
    c.mesh = {.outer = 2, .inner = 2};
    c.attention.strategy = AttentionStrategy::double_ring;
    expect_close(c, concat(name_of(dtype), ", double ring"));
  }
}

TEST_F(MemoryAccounts, OfEvaluatingWithAttentionInOtherTypesAgree) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const AttentionDType attention : {AttentionDType::f32, AttentionDType::bf16,
                                           AttentionDType::fp8, AttentionDType::fp8_output}) {
      EvaluationShape c{
          .model = model(), .dtype = dtype, .context_length = 5003, .piece_tokens = 96};
      c.attention.dtype = attention;
      const std::string what = concat(name_of(dtype), ", attention in ", name_of(attention));
      expect_close(c, what);
      c.mesh = {.inner = 3};
      expect_close(c, what + ", ring of 3");
      c.attention.strategy = AttentionStrategy::all_gather;
      expect_close(c, what + ", gathered");
      c.attention.strategy = AttentionStrategy::double_ring;
      c.mesh = {.outer = 2, .inner = 2, .head = 2};
      expect_close(c, what + ", double ring and heads");
    }
  }
}

TEST_F(MemoryAccounts, OfEvaluatingInTwoPartsAgree) {
  ModelConfig model_of_two = model();
  model_of_two.max_position_embeddings = 128;
  model_of_two.rope_scaling = {.method = RopeMethod::self_extend};
  model_of_two.rope_scaling.group = 8;
  model_of_two.rope_scaling.window = 64;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    EvaluationShape c{
        .model = model_of_two, .dtype = dtype, .context_length = 700, .piece_tokens = 200};
    expect_close(c, concat(name_of(dtype), ", one rank"));
    c.mesh = {.inner = 3};
    expect_close(c, concat(name_of(dtype), ", ring of 3"));
    c.attention.dtype = AttentionDType::fp8;
    expect_close(c, concat(name_of(dtype), ", ring of 3 in fp8"));
  }
}

TEST(MemoryAccount, OfSevenBillionParametersIsWhatArithmeticSays) {
  TrainingShape c{model_shape("llama2-7b"), DType::bf16, 16384, 1, Recompute::block_keep_attention};
  c.gpu = true;
  const MemoryAccount account = training_memory(c);
  const double n = static_cast<double>(c.model.parameter_count());
  EXPECT_NEAR(static_cast<double>(account[MemoryKind::parameters]), 6 * n, 0.001 * n);
  EXPECT_NEAR(static_cast<double>(account[MemoryKind::gradients]), 4 * n, 0.001 * n);
  EXPECT_NEAR(static_cast<double>(account[MemoryKind::moments]), 8 * n, 0.001 * n);
  EXPECT_LT(account.total(), int64_t{141} * 1000 * 1000 * 1000)
      << "fits one H200: " << account.str();
}

// What does not depend on the length is the weights and one piece's buffers: beyond them a token
// costs the residual stream, q, k and v, attention's output and log-sum-exps, its angles, ids and
// losses.
TEST(MemoryAccount, OfAMillionTokensIsOneLayers) {
  const ModelConfig m = model_shape("llama2-7b");
  const EvaluationShape million{.model = m, .context_length = 1 << 20, .gpu = true};
  EvaluationShape half = million;
  half.context_length /= 2;
  const double a_token =
      static_cast<double>(evaluation_memory(million).total() - evaluation_memory(half).total()) /
      static_cast<double>(half.context_length);
  const int64_t layer = 2 * (m.hidden_size + 2 * m.query_width() + 2 * m.key_value_width());
  const int64_t rows = 4 * (2 * m.num_attention_heads + m.head_dim + 4);
  EXPECT_GE(a_token, static_cast<double>(layer));
  EXPECT_LE(a_token, static_cast<double>(layer + rows));
  EXPECT_LT(evaluation_memory(million).total(), int64_t{80} * 1000 * 1000 * 1000)
      << evaluation_memory(million).str();
}

TEST(MemoryAccount, OfFp8OnAGpuHoldsCodesInPlaceOfSecondCopies) {
  // 7B at a million tokens: codes of q, k and v, cuDNN's block in E4M3 and its log-sum-exps, beyond
  // bf16's log-sum-exps; and the sum in f32 of calls that see few keys each.
  const ModelConfig m = model_shape("llama2-7b");
  EvaluationShape c{.model = m, .context_length = 1 << 20, .gpu = true};
  const int64_t in_bf16 = evaluation_memory(c).total();
  c.attention.dtype = AttentionDType::fp8_output;
  const int64_t width = m.query_width();
  const int64_t codes = (int64_t{1} << 20) * (width + 2 * m.key_value_width());
  EXPECT_NEAR(static_cast<double>(evaluation_memory(c).total() - in_bf16),
              static_cast<double>(codes + (int64_t{1} << 20) * width * (1 + 4)),
              1e-3 * static_cast<double>(codes));
}

TEST(MemoryAccount, TakesSmallerPiecesUntilAWindowFits) {
  EvaluationShape c{.model = model(), .dtype = DType::f32, .context_length = 20000};
  const int64_t need = evaluation_memory(c).total();
  EXPECT_EQ(piece_tokens_that_fit(c, need), kPieceTokens);
  const int64_t smaller = piece_tokens_that_fit(c, need - 1);
  EXPECT_LT(smaller, kPieceTokens);
  c.piece_tokens = smaller;
  EXPECT_LT(evaluation_memory(c).total(), need);
  c.piece_tokens = 64;
  try {
    static_cast<void>(piece_tokens_that_fit(c, evaluation_memory(c).total() / 2));
    FAIL() << "it was not refused";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("sequence ranks"), std::string::npos) << error.what();
  }
}

TEST(MemoryAccount, RefusesWhatCannotFitAndSaysWhatWould) {
  const TrainingShape c{model(), DType::f32, 1000, 1, Recompute::none};
  const int64_t need = training_memory(c).total();
  EXPECT_NO_THROW(require_memory(c, need));
  TrainingShape kept = c;
  kept.recompute = Recompute::block_keep_attention;
  const int64_t between = (need + training_memory(kept).total()) / 2;
  try {
    require_memory(c, between);
    FAIL() << "it was not refused";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("--recompute block-keep-attention"), std::string::npos)
        << error.what();
  }
  // Nothing but a shorter context helps where there is hardly more than the training state.
  TrainingShape shorter = c;
  shorter.context_length = c.context_length / 4;
  shorter.recompute = Recompute::block;
  const auto ways = ways_to_fit(c, training_memory(shorter).total());
  ASSERT_FALSE(ways.empty());
  EXPECT_NE(ways.back().find("a context of 250 tokens"), std::string::npos) << ways.back();
}

}  // namespace
}  // namespace ringbolt
