// Interrupted runs: by a signal, by --stop-after, by kill -9 at any moment. Metrics and weights
// must not tell.
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>

#include "io/checkpoint.h"
#include "io/json.h"
#include "tests/apps/commands_fixture.h"

namespace ringbolt::testing {
namespace {

namespace fs = std::filesystem;

/// metrics.jsonl without what a clock says.
std::vector<std::string> timeless_metrics(const std::string& run) {
  std::vector<std::string> lines;
  const std::string text = read_file(run + "/metrics.jsonl");
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const Json line = Json::parse(text.substr(begin, end - begin), "metrics");
    Json kept = Json::object();
    for (const auto& [name, value] : line.members()) {
      if (name != "wall") kept.set(name, value);
    }
    lines.push_back(kept.dump());
  }
  return lines;
}

/// Expects the newest checkpoints to hold bit-equal tensors, and returns how many elements were
/// compared.
int64_t compare_checkpoints(const std::string& a, const std::string& b) {
  const CheckpointReader left = CheckpointReader::open(find_checkpoints(a).back().folder);
  const CheckpointReader right = CheckpointReader::open(find_checkpoints(b).back().folder);
  EXPECT_EQ(left.names(), right.names());
  EXPECT_EQ(left.info().step, right.info().step);
  int64_t compared = 0;
  for (const std::string& name : left.names()) {
    std::vector<float> x(static_cast<size_t>(left.shape(name).elements()));
    std::vector<float> y(x.size());
    left.read(name, 0, x);
    right.read(name, 0, y);
    EXPECT_EQ(std::memcmp(x.data(), y.data(), x.size() * sizeof(float)), 0) << name;
    compared += static_cast<int64_t>(x.size());
  }
  return compared;
}

bool wait_for(const std::string& path) {
  for (int i = 0; i < 3000; ++i) {
    if (fs::exists(path)) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

class Resume : public Commands {
 protected:
  /// What the whole run has more than training(): everything that a resumed run must carry on.
  Words more() {
    return {"--checkpoint-every", "4", "--validation-tokens",  tokens(1),
            "--evaluate-every",   "3", "--evaluation-windows", "3"};
  }
  void expect_equal_runs(const std::string& a, const std::string& b, size_t steps) {
    EXPECT_EQ(timeless_metrics(folder_ / a).size(), steps);
    EXPECT_EQ(timeless_metrics(folder_ / a), timeless_metrics(folder_ / b));
    EXPECT_GT(compare_checkpoints(folder_ / a, folder_ / b), 50000);
  }
};

TEST_F(Resume, AfterStoppingIsTheRunWithoutInterruption) {
  expect_success(training("whole", 12, more()));
  Words part = training("part", 12, more());
  part.insert(part.end(), {"--stop-after", "7"});
  const Outcome stopped = run(part, "", {{"RINGBOLT_PROGRESS", "lines"}});
  EXPECT_EQ(stopped.status, 0);
  EXPECT_NE(stopped.err.find(
                "stopped after step 7 of 12 (--stop-after). Go on with: ringbolt train --output " +
                (folder_ / "part") + " --resume"),
            std::string::npos)
      << stopped.err;
  EXPECT_EQ(find_checkpoints(folder_ / "part").back().step, 7);
  expect_success({"train", "--output", folder_ / "part", "--resume"});
  expect_equal_runs("whole", "part", 12);
}

TEST_F(Resume, InBf16KeepsTheMasterWeights) {
  Words words = more();
  words.insert(words.end(), {"--dtype", "bf16"});
  expect_success(training("whole", 8, words));
  words.insert(words.end(), {"--stop-after", "5"});
  expect_success(training("part", 8, words));
  expect_success({"train", "--output", folder_ / "part", "--resume"});
  expect_equal_runs("whole", "part", 8);
}

TEST_F(Resume, AfterKillAtAnyMomentIsTheRunWithoutInterruption) {
  expect_success(training("whole", 60, more()));
  Program first(training("killed", 60, more()));
  ASSERT_TRUE(wait_for(folder_ / "killed/checkpoint-000008"));
  first.send(SIGKILL);
  EXPECT_EQ(first.wait().status, 128 + SIGKILL);
  Program second({"train", "--output", folder_ / "killed", "--resume"});
  wait_for(folder_ / "killed/checkpoint-000028");
  second.send(SIGKILL);
  static_cast<void>(second.wait());
  expect_success({"train", "--output", folder_ / "killed", "--resume"});
  expect_equal_runs("whole", "killed", 60);
}

TEST_F(Resume, RemovesWhatAKilledRunLeftUnfinished) {
  expect_success(training("run", 8, {"--checkpoint-every", "4", "--stop-after", "4"}));
  const std::filesystem::path unfinished = folder_ / "run/checkpoint-000006.partial";
  std::filesystem::create_directory(unfinished);
  write_file((unfinished / "shard-00000.h5").string(), "half of it");
  expect_success({"train", "--output", folder_ / "run", "--resume"});
  EXPECT_FALSE(std::filesystem::exists(unfinished));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "run/checkpoint-000008"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "run/checkpoint-000004"));
}

TEST_F(Resume, AfterSignalsThatAskToStop) {
  const Words words = training("whole", 40);
  expect_success(words);
  for (const int signal : {SIGTERM, SIGUSR1, SIGINT}) {
    const std::string name = "stopped-" + std::to_string(signal);
    Program program(training(name, 40, {"--checkpoint-every", "2"}));
    ASSERT_TRUE(wait_for(folder_ / (name + "/checkpoint-000002")));
    program.send(signal);
    const Outcome outcome = program.wait();
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_NE(outcome.out.find("checkpoint "), std::string::npos) << outcome.out;
    expect_success({"train", "--output", folder_ / name, "--resume"});
    expect_equal_runs("whole", name, 40);
  }
}

TEST_F(Resume, BeforeTheFirstCheckpointBeginsAgain) {
  expect_success(training("whole", 4));
  Program program(training("killed", 4000));
  ASSERT_TRUE(wait_for(folder_ / "killed/options.json"));
  program.send(SIGKILL);
  static_cast<void>(program.wait());
  expect_success({"train", "--output", folder_ / "killed", "--resume", "--steps", "4"});
  EXPECT_EQ(timeless_metrics(folder_ / "whole").size(), 4U);
  EXPECT_EQ(timeless_metrics(folder_ / "killed").size(), 4U);
}

TEST_F(Resume, OfAFinishedRunDoesNothingAndSucceeds) {
  const std::string run = trained_run();
  const Outcome again = expect_success({"train", "--output", run, "--resume"});
  EXPECT_NE(again.out.find("step 6 of 6, nothing is left to do"), std::string::npos) << again.out;
}

TEST_F(Resume, KeepsOnlyTheNewestCheckpoints) {
  expect_success(training("run", 9, {"--checkpoint-every", "2", "--keep-checkpoints", "3"}));
  const std::vector<FoundCheckpoint> found = find_checkpoints(folder_ / "run");
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0].step, 6);
  EXPECT_EQ(found[1].step, 8);
  EXPECT_EQ(found[2].step, 9);
}

TEST_F(Resume, RefusesAnotherRecipeAnOccupiedFolderAndAnEmptyOne) {
  const std::string run = trained_run();
  expect_error(this->run({"train", "--output", run, "--resume", "--steps", "9", "--seed", "5"}), 2,
               "--seed differs from the run in " + run);
  expect_error(
      this->run({"train", "--output", run, "--resume", "--steps", "9", "--batch-size", "3"}), 2,
      "a step would take 6 sequences");
  expect_error(this->run(training("trained", 9)), 2, "already holds a run");
  expect_error(this->run({"train", "--output", folder_ / "nowhere", "--resume"}), 2,
               "there is no run in");
}

}  // namespace
}  // namespace ringbolt::testing
