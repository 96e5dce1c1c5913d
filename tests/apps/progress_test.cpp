#include "apps/progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

namespace ringbolt {
namespace {

/// A stream, a clock that the test moves, and a width.
struct Fake {
  std::ostringstream stream;
  double now = 100;

  ProgressOutput output(ProgressMode mode, int64_t width = 80) {
    return {&stream, mode, width, [this] { return now; }};
  }
  std::vector<std::string> lines() const {
    std::vector<std::string> all;
    std::istringstream in(stream.str());
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  }
};

TEST(ProgressLines, AppearEveryTenPercentWithoutControlCharacters) {
  Fake fake;
  Progress progress("train", 200, "steps", fake.output(ProgressMode::lines));
  for (int64_t step = 1; step <= 200; ++step) {
    fake.now += 0.5;
    progress.update(step, {{"loss", "3.21"}});
  }
  progress.finish();
  const std::vector<std::string> lines = fake.lines();
  ASSERT_EQ(lines.size(), 10U);  // nine tenths and the end
  EXPECT_EQ(lines[0], "train 10%  20/200 steps  2.00 steps/s  1:30 left  loss 3.21");
  EXPECT_EQ(lines[4], "train 50%  100/200 steps  2.00 steps/s  50.0 s left  loss 3.21");
  EXPECT_EQ(lines[9], "train 100%  200/200 steps  2.00 steps/s  in 1:40  loss 3.21");
  const std::string text = fake.stream.str();
  EXPECT_TRUE(std::none_of(text.begin(), text.end(),
                           [](char c) { return c != '\n' && (c < ' ' || c > '~'); }));
}

TEST(ProgressLines, AppearAfterLongSilenceBetweenTenths) {
  Fake fake;
  Progress progress("train", 1000, "steps", fake.output(ProgressMode::lines));
  for (int64_t step = 1; step <= 5; ++step) {
    fake.now += 20;
    progress.update(step);
  }
  EXPECT_EQ(fake.lines().size(), 2U);  // after 40 s and 80 s
}

TEST(ProgressLines, OfAShortRunAreOnlyItsEnd) {
  Fake fake;
  Progress progress("train", 10, "steps", fake.output(ProgressMode::lines));
  for (int64_t step = 1; step <= 10; ++step) {
    fake.now += 0.01;
    progress.update(step);
  }
  progress.finish();
  ASSERT_EQ(fake.lines().size(), 1U);
  EXPECT_EQ(fake.lines()[0], "train 100%  10/10 steps  100 steps/s  in 0.10 s");
}

TEST(ProgressLines, OfUnknownTotalShowCountAndRate) {
  Fake fake;
  Progress progress("tokenize", 0, "bytes", fake.output(ProgressMode::lines), 0,
                    ProgressUnit::bytes);
  fake.now += 31;
  progress.update(31 * 2048);
  ASSERT_EQ(fake.lines().size(), 1U);
  EXPECT_EQ(fake.lines()[0], "tokenize  62.0 KiB  2.00 KiB/s");
}

TEST(ProgressBar, FitsTheWidthAndRewritesItsLine) {
  for (const int64_t width : {20, 40, 60, 80, 200}) {
    Fake fake;
    Progress progress("train", 100, "steps", fake.output(ProgressMode::bar, width));
    for (int64_t step = 1; step <= 100; ++step) {
      fake.now += 1;
      progress.update(step, {{"loss", "3.2145"}, {"rate", "1e-3"}});
    }
    progress.finish();
    const std::string text = fake.stream.str();
    int64_t drawn = 0;
    for (size_t begin = text.find('\r'); begin != std::string::npos;
         begin = text.find('\r', begin + 1), ++drawn) {
      const size_t end = text.find("\x1b[K", begin);
      ASSERT_NE(end, std::string::npos);
      EXPECT_LT(static_cast<int64_t>(end - begin - 1), width);
    }
    EXPECT_EQ(drawn, 101);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
    EXPECT_EQ(text.back(), '\n');
  }
}

TEST(ProgressBar, ShowsHalfTheBarHalfWay) {
  Fake fake;
  Progress progress("train", 60, "steps", fake.output(ProgressMode::bar, 100));
  fake.now += 30;
  progress.update(30);
  EXPECT_EQ(
      fake.stream.str(),
      "\rtrain 50% [===============>              ]  30/60 steps  1.00 steps/s  30.0 s left\x1b[K");
}

TEST(ProgressBar, IsRedrawnTenTimesASecondAtMost) {
  Fake fake;
  Progress progress("train", 1000, "steps", fake.output(ProgressMode::bar));
  for (int64_t step = 1; step <= 1000; ++step) {
    fake.now += 0.001;
    progress.update(step);
  }
  const std::string text = fake.stream.str();
  const auto drawn = std::count(text.begin(), text.end(), '\r');
  EXPECT_GE(drawn, 9);
  EXPECT_LE(drawn, 11);
}

TEST(ProgressBar, NoteStandsOnALineOfItsOwnAndAnAbandonedBarEndsItsLine) {
  Fake fake;
  {
    Progress progress("train", 10, "steps", fake.output(ProgressMode::bar));
    fake.now += 1;
    progress.update(1);
    progress.note("checkpoint written");
  }
  const std::string text = fake.stream.str();
  EXPECT_NE(text.find("\r\x1b[Kcheckpoint written\n"), std::string::npos);
  EXPECT_EQ(text.back(), '\n');
}

TEST(Progress, OfAResumedRunLeavesEarlierWorkOutOfItsRate) {
  Fake fake;
  Progress progress("train", 100, "steps", fake.output(ProgressMode::lines), 50);
  fake.now += 10;
  progress.update(60);
  ASSERT_EQ(fake.lines().size(), 1U);
  EXPECT_EQ(fake.lines()[0], "train 60%  60/100 steps  1.00 steps/s  40.0 s left");
}

TEST(Progress, WithoutDisplayPrintsNothing) {
  Fake fake;
  Progress progress("train", 10, "steps", fake.output(ProgressMode::none));
  fake.now += 100;
  progress.update(10);
  progress.note("checkpoint written");
  progress.finish();
  EXPECT_EQ(fake.stream.str(), "");
}

}  // namespace
}  // namespace ringbolt
