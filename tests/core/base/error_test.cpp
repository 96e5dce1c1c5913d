#include "core/base/error.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "core/base/build_info.h"

namespace ringbolt {
namespace {

TEST(Message, ReadsProblemWhyAndWhatToTry) {
  EXPECT_EQ(message("no such file: a.h5", "it is not there", "Check the path."),
            "no such file: a.h5 (it is not there). Check the path.");
}

TEST(Error, IsCaughtAsWhatItIsAndAsAnError) {
  EXPECT_THROW(throw UsageError("x"), Error);
  EXPECT_THROW(throw IoError("x"), std::runtime_error);
}

TEST(BuildInfo, NamesVersionCommitAndCompiler) {
  const BuildInfo& info = build_info();
  EXPECT_EQ(std::count(info.version.begin(), info.version.end(), '.'), 2) << info.version;
  EXPECT_TRUE(info.commit == "unknown" || info.commit.size() == 12) << info.commit;
  EXPECT_FALSE(info.compiler.empty());
  EXPECT_FALSE(info.libraries.empty());
  EXPECT_NE(build_line().find(info.version), std::string::npos);
  EXPECT_NE(build_line().find(info.commit), std::string::npos);
}

}  // namespace
}  // namespace ringbolt
