// Published checkpoints give published results: logits step by step, and losses over window
// lengths. The references were computed by llama2.c in f32, so the bounds are those of f32 sums in
// another order.
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/evaluate/context_loss.h"
#include "core/generate/generator.h"
#include "io/text_source.h"
#include "io/weights.h"
#include "rope/method.h"
#include "rope/table.h"
#include "tests/support/data.h"

namespace ringbolt {
namespace {

using testing_support::data_path;

/// A published model, ready to run.
struct Published {
  explicit Published(const std::string& checkpoint)
      : source(open_weights(data_path("checkpoints/" + checkpoint).string())),
        store(*backend, source->config(), DType::f32, StorePurpose::inference),
        model(*backend, store) {
    load_weights(*backend, store,
                 [&](const std::string& name, int64_t first, std::span<float> out) {
                   source->read(name, first, out);
                 });
  }

  std::unique_ptr<Backend> backend = make_cpu_backend();
  std::unique_ptr<WeightSource> source;
  ResidentParameters store;
  Transformer model;
  RotaryTables tables = [this](std::span<const int64_t> positions) {
    return make_rotary_table(*backend, RotaryMethod(source->config()), positions);
  };
};

std::vector<int32_t> numbers_in(const std::string& path) {
  std::ifstream file(path);
  std::vector<int32_t> numbers;
  for (int32_t n = 0; file >> n;) numbers.push_back(n);
  return numbers;
}

TEST(PublishedStories, GiveTheReferenceLogitsFor64GreedySteps) {
  RINGBOLT_NEEDS_DATA();
  constexpr size_t kSteps = 64;
  constexpr size_t kVocabulary = 512;
  std::vector<float> expected(kSteps * kVocabulary);
  std::ifstream file(data_path("reference/stories260K_greedy64_logits.f32"), std::ios::binary);
  file.read(reinterpret_cast<char*>(expected.data()),
            static_cast<std::streamsize>(expected.size() * sizeof(float)));
  ASSERT_TRUE(file);
  const auto ids = numbers_in(data_path("reference/stories260K_greedy64_ids.txt").string());
  ASSERT_EQ(ids.size(), kSteps);

  Published stories("stories260K.bin");
  Generator generator(*stories.backend, stories.model, DType::f32, stories.tables, kSteps + 1);
  float worst = 0;
  int32_t token = 1;  // <s>
  for (size_t step = 0; step < kSteps; ++step) {
    const std::vector<float> logits = generator.feed(std::span(&token, 1));
    ASSERT_EQ(logits.size(), kVocabulary);
    for (size_t i = 0; i < kVocabulary; ++i) {
      worst = std::max(worst, std::abs(logits[i] - expected[step * kVocabulary + i]));
    }
    token = sample(logits, {.temperature = 0}, 0);
    EXPECT_EQ(token, ids[step]) << "step " << step;
  }
  RecordProperty("worst_logit_error", std::to_string(worst));
  EXPECT_LT(worst, 1e-4F);
}

/// A row of reference/nll_grid_llama2c.tsv.
struct GridRow {
  std::string model;
  double base = 0;
  int64_t length = 0;
  int64_t windows = 0;
  int64_t tokens = 0;
  double loss = 0;
  std::vector<double> quarters = std::vector<double>(4);
};

std::vector<GridRow> grid_rows() {
  std::ifstream file(data_path("reference/nll_grid_llama2c.tsv"));
  std::vector<GridRow> rows;
  std::string line;
  std::getline(file, line);  // the protocol
  std::getline(file, line);  // the header
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    GridRow row;
    int64_t trained = 0;
    double perplexity = 0;
    fields >> row.model >> row.base >> row.length >> trained >> row.windows >> row.tokens >>
        row.loss >> perplexity;
    for (double& quarter : row.quarters) fields >> quarter;
    if (fields) rows.push_back(row);
  }
  return rows;
}

class PublishedLosses : public testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(PublishedLosses, AgreeAtEveryWindowLength) {
  RINGBOLT_NEEDS_DATA();
  const auto& [model, checkpoint] = GetParam();
  const std::string tokenizer_name = model == "tok105" ? "tok105" : "tok512";
  const auto tokenizer = make_tokenizer(
      data_path("tokenizers/" + tokenizer_name + "/" + tokenizer_name + ".model").string());
  const std::vector<int32_t> ids =
      encode_input(*tokenizer, {data_path("text/tinystories/tinystories_val_v1.txt").string(), -1});
  Published published(checkpoint);
  int compared = 0;
  for (const GridRow& row : grid_rows()) {
    if (row.model != model) continue;
    ASSERT_EQ(row.base, published.source->config().rope_theta);
    WholePlacement placement(*published.backend);
    const ContextLoss result = evaluate_context(
        published.model, placement, {.context_length = row.length, .windows = row.windows},
        static_cast<int64_t>(ids.size()),
        [&](int64_t begin, std::span<int32_t> out) {
          std::copy_n(ids.begin() + begin, out.size(), out.begin());
        },
        published.tables);
    EXPECT_EQ(result.total.tokens, row.tokens);
    EXPECT_NEAR(result.mean(), row.loss, 1e-5) << model << " at " << row.length;
    for (size_t q = 0; q < 4; ++q) {
      const LossSum& bucket = result.buckets[q];
      EXPECT_NEAR(bucket.loss / static_cast<double>(bucket.tokens), row.quarters[q],
                  1e-4);  // it has four decimals
    }
    ++compared;
  }
  EXPECT_EQ(compared, 4);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, PublishedLosses,
                         testing::Values(std::pair{"stories260K", "stories260K.bin"},
                                         std::pair{"tok105", "babyllama_tok105_model5000.bin"}),
                         [](const auto& instance) { return instance.param.first; });

}  // namespace
}  // namespace ringbolt
