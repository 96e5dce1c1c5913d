#include "core/cpu/isa.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/backend/backend.h"
#include "core/base/error.h"

namespace ringbolt::cpu {
namespace {

class IsaChoice : public testing::Test {
 protected:
  void TearDown() override { unsetenv("RINGBOLT_CPU_ISA"); }
};

TEST_F(IsaChoice, TakesTheBestUnlessAnotherIsNamed) {
  unsetenv("RINGBOLT_CPU_ISA");
  const std::vector<Isa> isas = available_isas();
  EXPECT_EQ(isas.front(), Isa::generic);
  EXPECT_TRUE(std::is_sorted(isas.begin(), isas.end()));
  EXPECT_EQ(choose_isa(), isas.back());
  for (Isa isa : isas) {
    setenv("RINGBOLT_CPU_ISA", name_of(isa).c_str(), 1);
    EXPECT_EQ(choose_isa(), isa);
    EXPECT_EQ(make_cpu_backend()->description().find(name_of(isa)), 0U) << "the backend says so";
  }
}

TEST_F(IsaChoice, RefusesAnUnknownNameListingWhatThereIs) {
  setenv("RINGBOLT_CPU_ISA", "avx1024", 1);
  try {
    choose_isa();
    FAIL() << "avx1024 was accepted";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("avx1024"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("generic"), std::string::npos);
  }
}

}  // namespace
}  // namespace ringbolt::cpu
