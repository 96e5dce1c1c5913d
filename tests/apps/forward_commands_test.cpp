// ringbolt bench --what forward: figures that agree with each other, and what it refuses.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include <gtest/gtest.h>

#include "io/json.h"
#include "tests/apps/commands_fixture.h"

namespace ringbolt::testing {
namespace {

class ForwardCommands : public Commands {
 protected:
  // E 32, H D = 4 x 8, K D = 2 x 8, F 72, V 61.
  static constexpr const char* kModel = "dim=32,layers=3,heads=4,kv-heads=2,ffn=72,vocab=61";
  static Words forward(const Words& more) {
    Words words{"bench",     "--what", "forward",    "--model", kModel,
                "--seconds", "0.001",  "--progress", "none"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  static Json rows(Words words) {
    words.insert(words.end(), {"--json", "-"});
    return Json::parse(expect_success(words).out, "standard output").at("results");
  }
  static double real(const Json& row, const std::string& name) { return row.at(name).as_real(); }

  static void expect_consistent(const Json& row, double tokens, double ranks) {
    EXPECT_EQ(row.at("ranks").at("world").as_integer(), static_cast<int64_t>(ranks));
    EXPECT_EQ(real(row, "attention_flops"), 3 * 4.0 * 8 * 4 * (tokens * (tokens + 1) / 2));
    EXPECT_EQ(real(row, "matrix_flops"),
              2 * tokens * (3 * (32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 72) + 61 * 32));
    const double seconds = real(row, "seconds");
    EXPECT_NEAR(real(row, "tokens_per_second") * seconds, tokens, 1e-9 * tokens);
    EXPECT_EQ(real(row, "attention_flops_per_second"),
              std::max(real(row, "attention_flops_per_second_before"),
                       real(row, "attention_flops_per_second_after")));
    const double floor =
        real(row, "attention_flops") / (ranks * real(row, "attention_flops_per_second"));
    const double products =
        real(row, "matrix_flops") / (ranks * real(row, "matrix_flops_per_second"));
    EXPECT_NEAR(real(row, "floor_seconds"), floor, 1e-9 * floor);
    EXPECT_NEAR(real(row, "floor_share"), floor / seconds, 1e-9);
    EXPECT_NEAR(real(row, "floor_with_products_seconds"), floor + products,
                1e-9 * (floor + products));
    EXPECT_NEAR(real(row, "floor_with_products_share"), (floor + products) / seconds,
                1e-9 * (1 + products / seconds));
    const double layer = real(row, "layer_median_seconds");
    EXPECT_NEAR(real(row, "floor_share_of_layer"), floor / 3 / layer, 1e-9 * floor / layer);
    EXPECT_LE(real(row, "layer_min_seconds"), layer);
    EXPECT_LE(layer, real(row, "layer_max_seconds"));
    const Json& memory = row.at("memory");
    const double peak = real(memory, "peak_bytes");
    EXPECT_NEAR(real(memory, "account_bytes"), peak, 0.01 * peak);
  }
};

TEST_F(ForwardCommands, FiguresAgreeWithEachOtherOnAnyRanksInAnyType) {
  const Json alone = rows(forward({"--context-length", "701"}));
  const Json ranks = rows(forward({"--context-length", "701", "--local-ranks", "3"}));
  ASSERT_EQ(alone.items().size(), ranks.items().size());
  ASSERT_GE(alone.items().size(), 1U);  // bf16 where the machine has it
  for (size_t i = 0; i < alone.items().size(); ++i) {
    expect_consistent(alone.at(i), 701, 1);
    expect_consistent(ranks.at(i), 701, 3);
    EXPECT_EQ(alone.at(i).at("dtype"), ranks.at(i).at("dtype"));
    EXPECT_NEAR(real(alone.at(i), "loss"), std::log(61.0), 0.05);
    EXPECT_NEAR(real(alone.at(i), "loss"), real(ranks.at(i), "loss"), 2e-4);
  }
}

TEST_F(ForwardCommands, TakesTheStrategiesAndTypesOfEvaluate) {
  const Json row = rows(forward({"--context-length", "97", "--dtype", "f32", "--local-ranks", "4",
                                 "--layout", "striped", "--attention", "double-ring",
                                 "--inner-ranks", "2", "--attention-dtype", "fp8"}))
                       .at(size_t{0});
  expect_consistent(row, 97, 4);
  EXPECT_EQ(row.at("ranks").at("attention").as_text(), "double-ring");
  EXPECT_EQ(row.at("ranks").at("inner").as_integer(), 2);
  EXPECT_EQ(row.at("ranks").at("layout").as_text(), "striped");
  EXPECT_EQ(row.at("attention_dtype").as_text(), "fp8");
  EXPECT_EQ(row.at("dtype").as_text(), "f32");
}

TEST_F(ForwardCommands, SaysWhatItIsAndShowsEachLayer) {
  const Outcome outcome =
      expect_success({"bench", "--what", "forward", "--model", kModel, "--context-length", "64",
                      "--dtype", "f32", "--seconds", "0.001", "--progress", "lines"});
  for (const std::string part :
       {"random weights, for time and memory alone", "64 tokens forward: ", "; 3 layers of ",
        "memory of a rank's tensors: ", "attention", "and products"})
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << "\n" << outcome.out;
  EXPECT_NE(outcome.err.find("3/3 layers"), std::string::npos) << outcome.err;
}

TEST_F(ForwardCommands, RefusesBeforeItStartsWhatDoesNotFit) {
  // 13 TiB of weights alone.
  expect_error(run({"bench", "--what", "forward", "--model", "dim=65536,layers=256,heads=512",
                    "--context-length", "1M", "--dtype", "f32"}),
               2, "a window of 1048576 tokens needs ");
}

TEST_F(ForwardCommands, RefusesWhatWouldDoNothing) {
  expect_error(run(forward({"--local-ranks", "4", "--sequence-ranks", "2"})), 2,
               "--sequence-ranks 2 leaves ranks idle (there are 4, and one sequence)");
  expect_error(run(forward({"--one-rank"})), 2,
               "--one-rank has no use (only --what ring takes it)");
  expect_error(run({"bench", "--what", "ring", "--head-ranks", "2"}), 2,
               "--head-ranks has no use (only --what forward takes it)");
  expect_error(run({"bench", "--what", "attention", "--attention-dtype", "fp8"}), 2,
               "--attention-dtype has no use (only --what forward takes it)");
  expect_error(run(forward({"--local-ranks", "3", "--head-ranks", "3"})), 2,
               "--head-ranks 3 does not divide the heads");
}

}  // namespace
}  // namespace ringbolt::testing
