// --position-map of the commands that only use a model.
#include <gtest/gtest.h>

#include "io/json.h"
#include "tests/apps/commands_fixture.h"

namespace ringbolt::testing {
namespace {

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(Commands, EvaluateReadsItsContextInParallelWindows) {
  const std::string trained = trained_run();  // at 48 positions
  const std::string text = tokens(1);
  const auto evaluate = [&](const Words& more) {
    Words words{"evaluate",   "--checkpoint", trained,     "--tokens", text,
                "--stride",   "12",           "--windows", "6",        "--score-overlap",
                "--progress", "none",         "--json",    "-"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  const auto length = [&](const Words& more) {
    const Outcome outcome = evaluate(more);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return Json::parse(outcome.out, "standard output").at("lengths").at(size_t{0});
  };
  // 192 tokens: a query of 12, and windows of 36 for what comes before.
  const Words mapped{"--context-lengths", "192", "--position-map", "parallel-windows"};
  const Json one = length(mapped);
  EXPECT_EQ(one.at("parallel_query").as_integer(), 12);
  EXPECT_EQ(one.at("parallel_window").as_integer(), 36);
  EXPECT_EQ(one.at("tokens").as_integer(), 6 * 12);
  Words on_ranks = mapped;
  on_ranks.insert(on_ranks.end(), {"--local-ranks", "3"});
  EXPECT_NEAR(length(on_ranks).at("loss").as_real(), one.at("loss").as_real(), 1e-5);
  // What fits the model is read as it is: the last part of a window has the query's loss.
  const Json plain = length({"--context-lengths", "48", "--buckets", "4"});
  const Json fits = length({"--context-lengths", "48", "--position-map", "parallel-windows"});
  EXPECT_NEAR(fits.at("loss").as_real(), plain.at("buckets").at(size_t{3}).at("loss").as_real(),
              1e-5);
  EXPECT_NE(one.at("loss").as_real(), length({"--context-lengths", "192", "--position-map",
                                              "parallel-windows", "--parallel-window", "18"})
                                          .at("loss")
                                          .as_real());

  const auto error = [&](const Words& more) {
    const Outcome outcome = evaluate(more);
    EXPECT_EQ(outcome.status, 2);
    return outcome.err;
  };
  EXPECT_TRUE(has(error({"--parallel-query", "4"}), "--position-map"));
  EXPECT_TRUE(has(error({"--position-map", "grouped", "--parallel-query", "4"}),
                  "has no windows and no query"));
  EXPECT_TRUE(has(error({"--position-map", "parallel-windows", "--parallel-query", "47"}),
                  "leaves no room"));
  EXPECT_TRUE(has(error({"--position-map", "parallel-windows", "--rope-method", "rerope",
                         "--rope-window", "8"}),
                  "does not go with rerope"));
}

TEST_F(Commands, GenerateReadsItsPromptAtMappedPositions) {
  const std::string trained = trained_run();
  const auto ids = [&](const std::string& prompt, const Words& more) {
    Words words{"generate", "--checkpoint",  trained, "--tokenizer", "bytes", "--prompt",
                prompt,     "--max-tokens",  "8",     "--seed",      "3",     "--json",
                "-",        "--temperature", "0"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const Json result = Json::parse(outcome.out, "standard output");
    EXPECT_EQ(result.at("ids").size(), 8U);
    return result.at("text").as_text();
  };
  const std::string longer = some_text().substr(0, 200);
  for (const char* map : {"grouped", "recurrent", "parallel-windows"}) {
    EXPECT_EQ(ids(longer, {"--position-map", map}).find(longer), 0U) << map;
  }
  const std::string fits = some_text().substr(0, 30);
  EXPECT_EQ(ids(fits, {"--position-map", "parallel-windows"}), ids(fits, {}));
  const Outcome no_room = run({"generate", "--checkpoint", trained, "--tokenizer", "bytes",
                               "--max-tokens", "48", "--position-map", "parallel-windows"});
  EXPECT_EQ(no_room.status, 2);
  EXPECT_TRUE(has(no_room.err, "leaves no room for windows")) << no_room.err;
}

}  // namespace
}  // namespace ringbolt::testing
