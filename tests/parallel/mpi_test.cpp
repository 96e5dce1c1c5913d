// Ranks as processes: every promise of a communicator, on all ranks that were started.
#include "parallel/mpi.h"

#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "parallel/launch.h"
#include "tests/parallel/conformance.h"
#include "tests/support/ranks_main.h"

namespace ringbolt {
namespace {

class Mpi : public testing::TestWithParam<test::Promise> {};

TEST_P(Mpi, Keeps) { GetParam().check(test::world()); }

std::string promise_name(const testing::TestParamInfo<test::Promise>& info) {
  return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(AllPromises, Mpi, testing::ValuesIn(test::promises()), promise_name);

TEST(MpiRanks, AreThoseOfTheLauncher) {
  const std::optional<Launch>& launch = find_launch();
  if (!launch) GTEST_SKIP() << "NOT TESTED: started without a launcher";
  EXPECT_EQ(launch->size, test::world().size());
  EXPECT_EQ(launch->rank, test::world().rank());
}

TEST(MpiRanks, TheLibraryHasAName) {
  EXPECT_NE(mpi_library(), "");
  EXPECT_EQ(mpi_library().find('\n'), std::string::npos);
}

}  // namespace
}  // namespace ringbolt
