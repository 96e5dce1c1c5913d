#include "io/metrics.h"

#include <gtest/gtest.h>

#include "tests/io/files.h"

namespace ringbolt {
namespace {

using test::error_of;
using test::expect_message;
using test::TemporaryFolder;

Json line(int64_t step) {
  return Json().set("step", step).set("loss", 1.0 / static_cast<double>(step + 1));
}

void write_steps(MetricsLog& log, int64_t first, int64_t last) {
  for (int64_t step = first; step <= last; ++step) log.write(line(step));
}

TEST(Metrics, AResumedRunHasTheLinesOfAnUninterruptedOne) {
  const TemporaryFolder folder;
  {
    MetricsLog whole(folder / "whole.jsonl");
    write_steps(whole, 1, 20);
    MetricsLog broken(folder / "broken.jsonl");
    write_steps(broken, 1, 13);
  }
  // The last checkpoint was at step 10; the kill tore the line of step 14.
  test::overwrite(folder / "broken.jsonl",
                  read_whole_file(folder / "broken.jsonl") + R"({"step":14,"lo)");
  {
    MetricsLog resumed(folder / "broken.jsonl", 10);
    write_steps(resumed, 11, 20);
  }
  EXPECT_EQ(read_whole_file(folder / "broken.jsonl"), read_whole_file(folder / "whole.jsonl"));
}

TEST(Metrics, EachLineIsInTheFileWhenWriteReturns) {
  const TemporaryFolder folder;
  MetricsLog log(folder / "m.jsonl");
  log.write(line(1));
  EXPECT_EQ(read_whole_file(folder / "m.jsonl"), "{\"step\":1,\"loss\":0.5}\n");
}

TEST(Metrics, BeginsAnewWithoutResumeAndWithoutAFile) {
  const TemporaryFolder folder;
  {
    MetricsLog log(folder / "m.jsonl", 5);
    write_steps(log, 1, 3);
  }
  { MetricsLog log(folder / "m.jsonl"); }
  EXPECT_EQ(read_whole_file(folder / "m.jsonl"), "");
}

TEST(Metrics, SaysWhichLineIsDamagedAndWhenTheDiskIsFull) {
  const TemporaryFolder folder;
  test::overwrite(folder / "m.jsonl", "{\"step\":1}\nnonsense\n{\"step\":3}\n");
  expect_message(error_of([&] { MetricsLog(folder / "m.jsonl", 3); }),
                 {"line 2 of " + (folder / "m.jsonl")});
  expect_message(error_of([&] { MetricsLog(folder / "no/m.jsonl"); }),
                 {"no/m.jsonl", "No such file"});
  const test::SmallDisk disk(16);
  if (!disk.mounted()) GTEST_SKIP() << "NOT TESTED: this user may not mount a small disk";
  MetricsLog log(disk / "m.jsonl");
  expect_message(error_of([&] { write_steps(log, 1, 10'000); }),
                 {disk / "m.jsonl", "No space left", "Free some space"});
}

}  // namespace
}  // namespace ringbolt
