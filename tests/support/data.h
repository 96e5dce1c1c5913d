// Real inputs that are not part of the repository: checkpoints, tokenizers, texts and their
// published results.
//
// They lie in the folder that RINGBOLT_DATA names, else in ../shared/data beside the source tree. A
// test that needs them begins with RINGBOLT_NEEDS_DATA(): it skips where the folder is absent, and
// fails under CI=true, where a skipped check must not pass for a made one.
#pragma once

#include <filesystem>

#include <gtest/gtest.h>

namespace ringbolt::testing_support {

/// data_path("tokenizers/llama2/tokenizer.model"); the file need not exist.
std::filesystem::path data_path(const std::filesystem::path& relative);
bool has_data();
bool running_in_ci();

}  // namespace ringbolt::testing_support

#define RINGBOLT_NEEDS_DATA()                                                                      \
  do {                                                                                             \
    if (!::ringbolt::testing_support::has_data()) {                                                \
      const auto missing = ::ringbolt::testing_support::data_path("");                             \
      if (::ringbolt::testing_support::running_in_ci()) FAIL() << "no data folder at " << missing; \
      GTEST_SKIP() << "NOT TESTED: no data folder at " << missing                                  \
                   << ". Set RINGBOLT_DATA to where it is.";                                       \
    }                                                                                              \
  } while (false)
