#include "tests/apps/commands_fixture.h"

#include <algorithm>
#include <array>
#include <utility>

namespace ringbolt::testing {

std::string Commands::some_text(int flavour) {
  const std::array<const char*, 8> words{"ring ",    "rope ",   "knot ",  "a bolt ",
                                         "is made ", "fast.\n", "holds ", "the "};
  std::string text;
  unsigned state = 12345U + static_cast<unsigned>(flavour);
  while (text.size() < 12000) {
    state = state * 1664525U + 1013904223U;
    text += words[(state >> 20U) % words.size()];
  }
  text.resize(12000);
  return text;
}

Outcome Commands::expect_success(const Words& words, const std::string& input) {
  Outcome outcome = run(words, input);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  return outcome;
}

std::string Commands::tokens(int flavour) {
  const std::string file = folder_ / ("tokens-" + std::to_string(flavour) + ".h5");
  expect_success({"tokenize", "--tokenizer", "bytes", "--output", file, "-"}, some_text(flavour));
  return file;
}

Commands::Words Commands::training(const std::string& run, int steps, const Words& more) {
  Words words{"train",    "--model",    "dim=32,layers=2,heads=4,kv-heads=2,vocab=259",
              "--tokens", tokens(),     "--context-length",
              "48",       "--steps",    std::to_string(steps),
              "--output", folder_ / run};
  const std::vector<std::pair<std::string, std::string>> defaults{
      {"--batch-size", "2"}, {"--gradient-accumulation", "2"}, {"--learning-rate", "3e-3"}};
  for (const auto& [name, value] : defaults) {
    if (std::find(more.begin(), more.end(), name) == more.end()) {
      words.insert(words.end(), {name, value});
    }
  }
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::string Commands::trained_run() {
  expect_success(training("trained", 6));
  return folder_ / "trained";
}

}  // namespace ringbolt::testing
