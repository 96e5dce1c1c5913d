#include "core/base/quantity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"

namespace ringbolt {
namespace {

/// The message of the UsageError that `body` throws, or "" where it throws none.
template <class Body>
std::string usage_error(const Body& body) {
  try {
    body();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(ParseCount, ReadsPlainNumbersSuffixesAndExponents) {
  const std::vector<std::pair<std::string, int64_t>> cases{{"0", 0},
                                                           {"4096", 4096},
                                                           {"16K", 16384},
                                                           {"16k", 16384},
                                                           {"1M", 1048576},
                                                           {"2G", 2147483648},
                                                           {"1e6", 1000000},
                                                           {"1.5K", 1536},
                                                           {"+7", 7},
                                                           {" 12 ", 12},
                                                           {"0.5M", 524288},
                                                           {"2.5e3", 2500},
                                                           {"9007199254740993", 9007199254740993}};
  for (const auto& [text, count] : cases) EXPECT_EQ(parse_count(text), count) << text;
}

TEST(ParseCount, RefusesWhatIsNoCountAndSaysWhy) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "it is not a number"},
      {"K", "it is not a number"},
      {"ten", "it is not a number"},
      {"16X", "the suffix 'X' is none of K, M, G"},
      {"16KB", "it is not a number"},
      {"-1", "it is negative"},
      {"-1.5K", "it is negative"},
      {"1.3", "it is not whole"},
      {"1.3K", "it is not whole"},
      {"1e30", "it is above 2^63"},
      {"9223372036854775807K", "it is above 2^63"},
      {"0x10", "it is not a number"},
      {"nan", "it is not a number"},
      {"inf", "it is not a number"}};
  for (const auto& [text, why] : cases) {
    const std::string told = usage_error([&] { parse_count(text); });
    EXPECT_NE(told.find("'" + text + "' is not a count (" + why + "). "), std::string::npos)
        << text << ": " << told;
  }
}

TEST(FormatCount, IsReadBackExactly) {
  EXPECT_EQ(format_count(16384), "16K");
  EXPECT_EQ(format_count(1048576), "1M");
  EXPECT_EQ(format_count(1000), "1000");
  EXPECT_EQ(format_count(0), "0");
  int64_t compared = 0;
  for (int64_t count = 1; count < (int64_t{1} << 40); count = count * 3 / 2 + 1, ++compared) {
    EXPECT_EQ(parse_count(format_count(count)), count);
    EXPECT_EQ(parse_count(format_count(count * 1024)), count * 1024);
  }
  EXPECT_GT(compared, 60);
}

TEST(ParseReal, ReadsRealNumbersOnly) {
  EXPECT_EQ(parse_real("1e6"), 1e6);
  EXPECT_EQ(parse_real("500000"), 5e5);
  EXPECT_EQ(parse_real("-0.25"), -0.25);
  for (const std::string text : {"", "1M", "1e", "0,5", "nan", "inf", "1 2"}) {
    EXPECT_NE(usage_error([&] { parse_real(text); }).find("'" + text + "' is not a real number ("),
              std::string::npos)
        << text;
  }
}

TEST(FormatReal, IsShortAndReadBackExactly) {
  EXPECT_EQ(format_real(1e6), "1e6");
  EXPECT_EQ(format_real(1e-5), "1e-5");
  EXPECT_EQ(format_real(0.1), "0.1");
  EXPECT_EQ(format_real(10000), "10000");
  EXPECT_EQ(format_real(1.0), "1");
  EXPECT_EQ(format_real(-2.5e-300), "-2.5e-300");
  EXPECT_EQ(format_real(std::numeric_limits<double>::infinity()), "inf");
  EXPECT_EQ(format_real(std::nan("")), "nan");
  for (const double value : {1.0 / 3, 6.02214076e23, 1e-10, 5e-324, 123456789.125}) {
    EXPECT_EQ(parse_real(format_real(value)), value);
  }
}

TEST(ParseFlag, KnowsFourWordsForEach) {
  for (const std::string yes : {"on", "true", "yes", "1"}) EXPECT_TRUE(parse_flag(yes)) << yes;
  for (const std::string no : {"off", "false", "no", "0"}) EXPECT_FALSE(parse_flag(no)) << no;
  EXPECT_EQ(usage_error([] { parse_flag("maybe"); }),
            "'maybe' is neither on nor off (this is a switch). Write on or off.");
}

TEST(SplitList, TrimsPartsAndRefusesEmptyOnes) {
  EXPECT_EQ(split_list("128,512,1K"), (std::vector<std::string>{"128", "512", "1K"}));
  EXPECT_EQ(split_list(" 128 , 512"), (std::vector<std::string>{"128", "512"}));
  for (const std::string text : {"", ",", "1,", "1,,2"}) {
    EXPECT_NE(usage_error([&] { split_list(text); }), "") << text;
  }
}

TEST(FormatBytes, KeepsThreeDigits) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_bytes(1048575), "1.00 MiB");
  EXPECT_EQ(format_bytes(int64_t{13} << 30), "13.0 GiB");
  EXPECT_EQ(format_bytes(int64_t{200} << 30), "200 GiB");
}

TEST(FormatRate, KeepsThreeDigits) {
  EXPECT_EQ(format_rate(0), "0.00");
  EXPECT_EQ(format_rate(950), "950");
  EXPECT_EQ(format_rate(999.9), "1.00k");
  EXPECT_EQ(format_rate(12345), "12.3k");
  EXPECT_EQ(format_rate(3.2e6), "3.20M");
  EXPECT_EQ(format_rate(-1), "?");
}

TEST(FormatDuration, GrowsFromSecondsToDays) {
  EXPECT_EQ(format_duration(0.351), "0.35 s");
  EXPECT_EQ(format_duration(12.44), "12.4 s");
  EXPECT_EQ(format_duration(59.96), "1:00");
  EXPECT_EQ(format_duration(185), "3:05");
  EXPECT_EQ(format_duration(3765), "1:02:45");
  EXPECT_EQ(format_duration(2 * 86400 + 3765), "2d 01:02:45");
  EXPECT_EQ(format_duration(-1), "?");
  EXPECT_EQ(format_duration(std::numeric_limits<double>::infinity()), "?");
}

TEST(FormatGrouped, SeparatesThousands) {
  EXPECT_EQ(format_grouped(0), "0");
  EXPECT_EQ(format_grouped(999), "999");
  EXPECT_EQ(format_grouped(1570540), "1,570,540");
  EXPECT_EQ(format_grouped(-100000), "-100,000");
}

}  // namespace
}  // namespace ringbolt
