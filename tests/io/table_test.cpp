#include "io/table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace ringbolt {
namespace {

TEST(Table, AlignsTheFirstColumnLeftAndNumbersRight) {
  Table table({"length", "loss", "caf\xC3\xA9"});
  table.add_row({"256", fixed(1.25, 3), "\xE2\x82\xAC"});
  table.add_row({"1048576", fixed(10.5, 3)});
  EXPECT_EQ(table.str(),
            "length     loss  caf\xC3\xA9\n"
            "-------  ------  ----\n"
            "256       1.250     \xE2\x82\xAC\n"
            "1048576  10.500\n");
}

TEST(Table, WritesNumbersAndSizesAsPeopleDo) {
  EXPECT_EQ(fixed(2.0 / 3, 4), "0.6667");
  EXPECT_EQ(fixed(std::nan(""), 4), "-");
  EXPECT_EQ(fixed(-std::numeric_limits<double>::infinity(), 1), "-inf");
  EXPECT_EQ(fixed(1e300, 0).size(), 301U);
  EXPECT_EQ(short_size(0), "0");
  EXPECT_EQ(short_size(512), "512");
  EXPECT_EQ(short_size(1024), "1K");
  EXPECT_EQ(short_size(1536), "1.5K");
  EXPECT_EQ(short_size(16384), "16K");
  EXPECT_EQ(short_size(1 << 20), "1M");
  EXPECT_EQ(short_size(4813), "4.7K");
}

}  // namespace
}  // namespace ringbolt
