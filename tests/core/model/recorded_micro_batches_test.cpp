// Micro-batches that are recorded and replayed against the same ones run as they are.
#include "core/model/recorded_micro_batches.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/cuda/cuda_backend.h"
#include "tests/support/compare.h"
#include "tests/support/model_under_test.h"
#include "tests/support/reference/model.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using reference::Batch;

ModelConfig grouped() {
  return model_shape("dim=40,layers=1,heads=4,kv-heads=2,head-dim=16,ffn=52,vocab=67");
}
/// Its head adds to the gradients of the embedding.
ModelConfig tied() {
  ModelConfig c = model_shape("dim=24,layers=2,heads=3,ffn=37,vocab=53");
  c.tie_word_embeddings = true;
  c.qkv_bias = true;
  return c;
}

constexpr int64_t kAccumulation = 3;

/// What a model of `parameters` makes of micro-batches, three to a step. Attention stays while the
/// documents do.
class Steps {
 public:
  Steps(Backend& backend, const ModelConfig& config, DType dtype,
        const reference::Parameters& parameters)
      : backend_(backend), model_(backend, config, dtype, parameters) {}

  ModelUnderTest& model() { return model_; }
  /// Makes table and attention of documents that end at `offsets`.
  void set_documents(const std::vector<int64_t>& offsets) {
    batch_ = reference::causal_batch(std::vector<int32_t>(static_cast<size_t>(offsets.back())));
    batch_.slices = causal_slices(offsets);
    set_table();
    set_attention();
    dangles_ =
        backend_.allocate(DType::f32, {offsets.back(), model_.store().config().head_dim / 2});
    backend_.fill_zero(dangles_);
    table_->dangles = dangles_;
  }
  /// Other positions; another place, too.
  void set_table() {
    for (int64_t& position : batch_.positions) position += 3;
    auto another = std::make_unique<RotaryTable>(model_.table(batch_));  // beside the old one
    if (table_) another->dangles = table_->dangles;
    table_ = std::move(another);
  }
  void set_attention() { attention_.emplace(backend_, batch_.slices); }

  LossSum take(uint64_t seed, Recompute policy, float scale, MicroBatch which) {
    const auto tokens = static_cast<int64_t>(batch_.ids.size());
    const Batch batch =
        reference::causal_batch(random_ids(seed, tokens, model_.store().config().vocab_size));
    std::vector<int32_t> targets = batch.targets;
    if (tokens > 3) targets[static_cast<size_t>(seed % 3)] = -1;
    backend_.fill_zero(dangles_);
    return model_.model().train(batch.ids, targets, *table_, *attention_, policy, scale, which);
  }
  /// The losses of a step; its gradients are in the store.
  std::vector<double> take_step(uint64_t step, Recompute policy) {
    std::vector<double> losses;
    model_.store().zero_gradients();
    for (uint64_t micro = 0; micro < kAccumulation; ++micro) {
      const auto which =
          micro + 1 < kAccumulation ? MicroBatch::more_follow : MicroBatch::last_of_step;
      const LossSum sum = take(kAccumulation * step + micro, policy, 1.0F / 97, which);
      losses.insert(losses.end(),
                    {sum.loss, static_cast<double>(sum.hits), static_cast<double>(sum.tokens)});
    }
    return losses;
  }
  std::vector<float> dangles() { return download_f32(backend_, dangles_); }

 private:
  Backend& backend_;
  ModelUnderTest model_;
  Batch batch_;
  std::unique_ptr<RotaryTable> table_;
  std::optional<WholeSequenceAttention> attention_;
  Tensor dangles_;
};

class RecordedOnADevice : public BackendTest {
 protected:
  /// cuDNN adds to dq in no fixed order: on a GPU the bits of bf16 differ from run to run.
  bool same_bits() const { return dtype() == DType::f32 || GetParam().device == "emulated"; }
  void expect_same(const reference::Parameters& actual, const reference::Parameters& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (const auto& [name, values] : expected) {
      if (same_bits()) {
        EXPECT_EQ(actual.at(name), values) << name;
      } else {
        EXPECT_TRUE(close_in_norm(actual.at(name), values, 0x1p-8)) << name;
      }
    }
  }
};

TEST_P(RecordedOnADevice, MicroBatchesHaveTheNumbersOfThoseRunAsTheyAre) {
  struct Case {
    ModelConfig config;
    Recompute policy;
    std::vector<int64_t> documents;
  };
  int64_t compared = 0;
  for (const Case& c :
       {Case{grouped(), Recompute::none, {0, 37}}, Case{grouped(), Recompute::block, {0, 1, 9, 21}},
        Case{grouped(), Recompute::block_keep_attention, {0, 13}},
        Case{tied(), Recompute::none, {0, 1, 9}},
        Case{tied(), Recompute::block_keep_attention, {0, 17}}}) {
    SCOPED_TRACE(testing::Message() << "case " << compared / 3);
    const reference::Parameters parameters = random_parameters(c.config, dtype());
    Steps eager(backend(), c.config, dtype(), parameters);
    Steps recorded(backend(), c.config, dtype(), parameters);
    recorded.model().model().record_micro_batches();
    eager.set_documents(c.documents);
    recorded.set_documents(c.documents);
    for (uint64_t step = 0; step < 3; ++step) {
      EXPECT_EQ(recorded.take_step(step, c.policy), eager.take_step(step, c.policy));
      expect_same(recorded.model().gradients(), eager.model().gradients());
      if (same_bits()) {
        EXPECT_EQ(recorded.dangles(), eager.dangles());
      }
      ++compared;
    }
    // Of nine, the first of those that others follow and the first last one are not.
    EXPECT_EQ(recorded.model().model().replayed_micro_batches(), 7);
  }
  EXPECT_EQ(compared, 15);
}

TEST_P(RecordedOnADevice, MicroBatchesThatDifferAreRunAsTheyAreAndThenRecordedAnew) {
  const ModelConfig config = grouped();
  const reference::Parameters parameters = random_parameters(config, dtype());
  Steps eager(backend(), config, dtype(), parameters);
  Steps recorded(backend(), config, dtype(), parameters);
  recorded.model().model().record_micro_batches();
  uint64_t seed = 0;
  int64_t replayed = 0;
  Recompute policy = Recompute::none;
  float scale = 0.01F;
  const auto expect = [&](const std::string& what, int64_t replays) {
    SCOPED_TRACE(what);
    ++seed;
    const LossSum expected = eager.take(seed, policy, scale, MicroBatch::last_of_step);
    const LossSum actual = recorded.take(seed, policy, scale, MicroBatch::last_of_step);
    EXPECT_EQ(actual.loss, expected.loss);
    EXPECT_EQ(actual.hits, expected.hits);
    replayed += replays;
    EXPECT_EQ(recorded.model().model().replayed_micro_batches(), replayed);
    expect_same(recorded.model().gradients(), eager.model().gradients());
  };
  const auto both = [&](const auto& change) {
    change(eager);
    change(recorded);
  };
  both([](Steps& s) { s.set_documents({0, 7}); });
  expect("the first", 0);
  expect("the second", 1);
  expect("the third", 1);
  both([](Steps& s) { s.set_table(); });
  expect("another table", 1);
  const std::vector<std::pair<std::string, std::function<void()>>> changes{
      {"another length", [&] { both([](Steps& s) {
                                 s.set_documents({0, 11});
                               }); }},
      {"other documents", [&] { both([](Steps& s) {
                                  s.set_documents({0, 5, 11});
                                }); }},
      {"another attention", [&] { both([](Steps& s) { s.set_attention(); }); }},
      {"another policy", [&] { policy = Recompute::block; }},
      {"another scale", [&] { scale = 0.02F; }}};
  for (const auto& [what, change] : changes) {
    change();
    expect(what, 0);
    expect(what + " again", 1);
    expect(what + " and again", 1);
  }
}

TEST_P(RecordedOnADevice, MicroBatchesCountTheMemoryOfThoseRunAsTheyAre) {
  const ModelConfig config = grouped();
  Steps steps(backend(), config, dtype(), random_parameters(config, dtype()));
  steps.model().model().record_micro_batches();
  steps.set_documents({0, 50});
  std::vector<int64_t> peaks;
  // Ids, targets, losses and hits; cos, sin and the gradient of the angles.
  const int64_t live = backend().memory().live_bytes + 50 * 4 * 4 + 3 * 50 * 8 * 4;
  for (uint64_t seed = 0; seed < 4;
       ++seed) {  // as it is, recorded and replayed, replayed, replayed
    backend().reset_peak_memory();
    steps.take(seed, Recompute::none, 0.01F, MicroBatch::last_of_step);
    peaks.push_back(backend().memory().peak_bytes);
    EXPECT_EQ(backend().memory().live_bytes, live);
  }
  EXPECT_GT(peaks[0], live);
  EXPECT_EQ(peaks, std::vector<int64_t>(4, peaks[0]));
}

std::vector<BackendCase> devices_that_record() {
  std::vector<BackendCase> cases;
  for (const BackendCase& one : backend_cases()) {
    if (one.on_cuda()) cases.push_back(one);
  }
  return cases;
}
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RecordedOnADevice);
INSTANTIATE_TEST_SUITE_P(Devices, RecordedOnADevice, testing::ValuesIn(devices_that_record()),
                         case_name);

TEST(RecordedMicroBatches, AreRefusedOnTheCpu) {
  const auto backend = make_cpu_backend(1);
  const ModelConfig config = grouped();
  ResidentParameters store(*backend, config, DType::f32, StorePurpose::training);
  Transformer model(*backend, store);
  try {
    model.record_micro_batches();
    FAIL() << "nothing was thrown";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(),
                 "micro-batches cannot be recorded (the device is cpu). Use --device cuda, or "
                 "leave --cuda-graph out.");
  }
}

}  // namespace
}  // namespace ringbolt
