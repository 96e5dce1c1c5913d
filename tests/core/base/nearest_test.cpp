#include "core/base/nearest.h"

#include <gtest/gtest.h>

namespace ringbolt {
namespace {

TEST(EditDistance, CountsInsertionsDeletionsSubstitutionsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("contxt-length", "context-length"), 1);
  EXPECT_EQ(edit_distance("trian", "train"), 1);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("ab", "ba"), 1);
  EXPECT_EQ(edit_distance("ca", "abc"),
            3);  // optimal string alignment, not full Damerau-Levenshtein (2)
}

TEST(NearestName, FindsTheNameThatWasMeant) {
  const std::vector<std::string> names{"steps", "stride", "context-length", "context-lengths",
                                       "checkpoint"};
  EXPECT_EQ(nearest_name("step", names), "steps");
  EXPECT_EQ(nearest_name("contxt-length", names), "context-length");
  EXPECT_EQ(nearest_name("check", names), "checkpoint");  // an unfinished name
}

TEST(NearestName, StaysSilentWhenNothingIsNear) {
  const std::vector<std::string> names{"steps", "stride", "context-length"};
  EXPECT_EQ(nearest_name("zebra", names), "");
  EXPECT_EQ(nearest_name("st", names), "");  // begins two of them
  EXPECT_EQ(nearest_name("", names), "");
  EXPECT_EQ(nearest_name("steps", {}), "");
}

}  // namespace
}  // namespace ringbolt
