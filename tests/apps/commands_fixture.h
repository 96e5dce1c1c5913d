// What the command tests share: a folder, a small text and token file, and a tiny model that trains
// in a second.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/apps/run_program.h"

namespace ringbolt::testing {

class Commands : public ::testing::Test {
 protected:
  using Words = std::vector<std::string>;

  /// 12 000 bytes of words in a fixed, not quite regular order; `flavour` varies it.
  static std::string some_text(int flavour = 0);
  /// The token file of some_text(), made by the program itself.
  std::string tokens(int flavour = 0);
  /// Words of a training of `steps` steps into folder/`run`, with more words behind.
  Words training(const std::string& run, int steps, const Words& more = {});
  /// A trained run.
  std::string trained_run();

  static Outcome run(const Words& words, const std::string& input = "",
                     const Environment& environment = {}) {
    return run_ringbolt(words, input, environment);
  }
  /// Runs and expects success.
  static Outcome expect_success(const Words& words, const std::string& input = "");

  TemporaryFolder folder_;
};

}  // namespace ringbolt::testing
