// evaluate --attention-dtype: what it changes, what it leaves, and who refuses it.
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "io/json.h"
#include "tests/apps/commands_fixture.h"
#include "tests/support/data.h"

namespace ringbolt::testing {
namespace {

class AttentionDTypes : public Commands {
 protected:
  struct Evaluated {
    double loss;
    std::string dtype, attention_dtype;
  };
  static Evaluated evaluated(Words words, const Words& more) {
    words.insert(words.begin(), "evaluate");
    words.insert(words.end(), {"--json", "-"});
    words.insert(words.end(), more.begin(), more.end());
    const Json result = Json::parse(expect_success(words).out, "evaluate");
    return {result.at("lengths").at(size_t{0}).at("loss").as_real(), result.at("dtype").as_text(),
            result.at("attention_dtype").as_text()};
  }
};

TEST_F(AttentionDTypes, ChangeTheLossByTheirRoundingAndStandInTheResult) {
  const Words words{"--checkpoint",      trained_run(), "--tokens",  tokens(),
                    "--context-lengths", "96",          "--windows", "7"};
  const Evaluated f32 = evaluated(words, {});
  EXPECT_EQ(f32.attention_dtype, "f32");
  EXPECT_EQ(evaluated(words, {"--attention-dtype", "f32"}).loss, f32.loss)
      << "nothing is converted";
  double before = 0;
  for (const std::string dtype : {"bf16", "fp8"}) {
    const Evaluated other = evaluated(words, {"--attention-dtype", dtype});
    EXPECT_EQ(other.attention_dtype, dtype);
    EXPECT_EQ(other.dtype, "f32");
    const double change = std::abs(other.loss - f32.loss);
    EXPECT_GT(change, before);
    EXPECT_LT(change, 0.02) << dtype;
    before = change;
  }
  const double rounded = evaluated(words, {"--attention-dtype", "fp8-output"}).loss;
  EXPECT_NE(rounded, evaluated(words, {"--attention-dtype", "fp8"}).loss);
  EXPECT_NEAR(rounded, f32.loss, 0.02);
  EXPECT_EQ(evaluated(words, {"--dtype", "bf16"}).attention_dtype, "bf16");
}

TEST_F(AttentionDTypes, HaveTheSameLossOnAnyRanks) {
  const Words words{"--checkpoint",      trained_run(), "--tokens",  tokens(),
                    "--context-lengths", "97",          "--windows", "7",
                    "--attention-dtype", "fp8"};
  const double alone = evaluated(words, {}).loss;
  const std::vector<Words> ways{
      {"--local-ranks", "3"},
      {"--local-ranks", "2", "--layout", "striped"},
      {"--local-ranks", "3", "--attention", "all-gather"},
      {"--local-ranks", "4", "--head-ranks", "2", "--layout", "contiguous"},
      {"--local-ranks", "2", "--attention", "auto"}};
  for (const Words& way : ways) {
    EXPECT_NEAR(evaluated(words, way).loss, alone, 2e-4) << way[1] << " " << way.back();
  }
}

TEST_F(AttentionDTypes, CostPublishedModelsLittle) {
  RINGBOLT_NEEDS_DATA();
  using testing_support::data_path;
  const Words words{"--checkpoint",
                    data_path("checkpoints/babyllama_tok105_model5000.bin"),
                    "--tokenizer",
                    data_path("tokenizers/tok105/tok105.model"),
                    "--text",
                    data_path("text/tinystories/tinystories_val_v1.txt"),
                    "--context-lengths",
                    "256",
                    "--windows",
                    "16"};
  const double f32 = evaluated(words, {}).loss;
  EXPECT_NEAR(evaluated(words, {"--attention-dtype", "bf16"}).loss, f32, 5e-4);
  const double fp8 = evaluated(words, {"--attention-dtype", "fp8"}).loss;
  EXPECT_GT(fp8, f32 + 0.001);
  EXPECT_LT(fp8, f32 + 0.03);
}

TEST_F(AttentionDTypes, AreRefusedWhereThereIsNoBackwardAndWhereTheyAreNone) {
  const Outcome training = run(this->training("run", 1, {"--attention-dtype", "fp8"}));
  expect_error(
      training, 2,
      "--attention-dtype is refused here (attention in another type than the model's has no "
      "backward). Choose the model's by --dtype");
  expect_error(run({"evaluate", "--checkpoint", "x", "--tokens", "y", "--attention-dtype", "e5m2"}),
               2, "--attention-dtype");
}

}  // namespace
}  // namespace ringbolt::testing
