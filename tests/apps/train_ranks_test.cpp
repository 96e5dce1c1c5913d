// `ringbolt train` on ranks: the losses of one rank, checkpoints that any number of ranks resumes,
// and ends that all share.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "io/checkpoint.h"
#include "io/json.h"
#include "tests/apps/commands_fixture.h"

namespace ringbolt::testing {
namespace {

namespace fs = std::filesystem;

/// One number of each line of metrics.jsonl.
std::vector<double> metric(const std::string& run, const std::string& name) {
  std::vector<double> values;
  const std::string text = read_file(run + "/metrics.jsonl");
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const Json line = Json::parse(text.substr(begin, end - begin), "metrics");
    if (const Json* value = line.find(name)) values.push_back(value->as_real());
  }
  return values;
}

bool wait_for(const std::string& path) {
  for (int i = 0; i < 3000; ++i) {
    if (fs::exists(path)) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

class TrainOnRanks : public Commands {
 protected:
  /// Bounds: tests/parallel/training_test.cpp has the same arithmetic and 3e-7 for ten steps.
  void expect_same_losses(const std::string& actual, const std::string& expected, size_t steps) {
    for (const char* name : {"loss", "gradient_norm", "validation_loss"}) {
      const std::vector<double> a = metric(folder_ / actual, name),
                                e = metric(folder_ / expected, name);
      ASSERT_EQ(a.size(), e.size()) << name;
      for (size_t i = 0; i < e.size(); ++i)
        EXPECT_NEAR(a[i], e[i], 3e-6 * e[i]) << name << ' ' << i;
    }
    EXPECT_EQ(metric(folder_ / actual, "loss").size(), steps);
  }
  Words words(const std::string& run, int steps, Words more = {}) {
    more.insert(more.end(),
                {"--threads", "1", "--validation-tokens", tokens(1), "--evaluation-windows", "3"});
    if (std::find(more.begin(), more.end(), "--attention") == more.end()) {
      more.insert(more.end(), {"--attention", "ring"});  // auto depends on the machine
    }
    return training(run, steps, more);
  }
  static Words program(const Words& arguments) {
    Words all{RINGBOLT_PROGRAM};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return all;
  }
  /// Each rank leaves its process id in folder/pid-<rank> and becomes ringbolt.
  Program start_with_known_pids(int ranks, const Words& arguments) {
    Words all{"/bin/sh", "-c",
              "echo $$ > " + (folder_ / "pid-") + "$OMPI_COMM_WORLD_RANK; exec \"$@\"", "sh"};
    const Words rest = program(arguments);
    all.insert(all.end(), rest.begin(), rest.end());
    return start_on_mpi(ranks, all);
  }
  void send_to_rank(int rank, int signal) {
    const int pid = std::stoi(read_file(folder_ / ("pid-" + std::to_string(rank))));
    ASSERT_GT(pid, 1);
    ::kill(pid, signal);
  }
  void copy_run(const std::string& from, const std::string& to) {
    fs::copy(folder_ / from, folder_ / to, fs::copy_options::recursive);
  }
};

TEST_F(TrainOnRanks, HasTheLossesOfOne) {
  expect_success(words("one", 8));
  const Outcome outcome = expect_success(words("two", 8, {"--local-ranks", "2"}));
  EXPECT_NE(outcome.out.find("2 ranks (1 data x 2 sequence, zigzag, ring), exposed communication "),
            std::string::npos)
      << outcome.out;
  expect_same_losses("two", "one", 8);
  // Two data ranks take what two micro-batches did; heads are divided; state is sharded otherwise.
  expect_success(words(
      "four", 8, {"--local-ranks", "4", "--sequence-ranks", "2", "--gradient-accumulation", "1"}));
  expect_same_losses("four", "one", 8);
  expect_success(words("heads", 8,
                       {"--local-ranks", "4", "--head-ranks", "2", "--layout", "striped",
                        "--shard-state", "optimizer"}));
  expect_same_losses("heads", "one", 8);
  expect_success(words(
      "gather", 8, {"--local-ranks", "3", "--attention", "all-gather", "--layout", "contiguous"}));
  expect_same_losses("gather", "one", 8);
}

TEST_F(TrainOnRanks, OfSeparateDocumentsHasTheLossesOfOne) {
  const std::string file = folder_ / "lines.h5";
  for (int i = 0; i < 40; ++i) {
    write_file(folder_ / ("text-" + std::to_string(i)),
               some_text(i).substr(0, static_cast<size_t>(5 + 7 * (i % 13))));
  }
  Words tokenize{"tokenize", "--tokenizer", "bytes", "--output", file};
  for (int i = 0; i < 40; ++i) tokenize.push_back(folder_ / ("text-" + std::to_string(i)));
  expect_success(tokenize);
  const auto with = [&](const std::string& run, Words more, const std::string& documents) {
    more.insert(more.end(), {"--documents", documents});
    Words all = words(run, 6, more);
    *(std::find(all.begin(), all.end(), "--tokens") + 1) = file;
    return all;
  };
  expect_success(with("one", {}, "separate"));
  expect_success(with("two", {"--local-ranks", "2"}, "separate"));
  expect_same_losses("two", "one", 6);
  expect_success(with("joined", {}, "joined"));
  const double joined = metric(folder_ / "joined", "loss").back();
  EXPECT_GT(std::abs(joined - metric(folder_ / "one", "loss").back()), 1e-3);
}

TEST_F(TrainOnRanks, AutoSaysWhyAndKeepsItsChoice) {
  expect_success(words("one", 4));
  const Outcome outcome =
      run(words("auto", 4, {"--local-ranks", "2", "--attention", "auto", "--stop-after", "2"}), "",
          {{"RINGBOLT_PROGRESS", "lines"}});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("attention by "), std::string::npos) << outcome.err;
  const Json options = Json::parse(read_file(folder_ / "auto/options.json"), "options.json");
  EXPECT_NE(options.at("attention").as_text(), "auto");
  expect_success({"train", "--output", folder_ / "auto", "--resume"});
  expect_same_losses("auto", "one", 4);
}

TEST_F(TrainOnRanks, ACheckpointOfFourRanksGoesOnOnAnyNumber) {
  expect_success(words("whole", 10, {"--local-ranks", "4"}));
  expect_success(words("part", 10, {"--local-ranks", "4", "--stop-after", "5"}));
  for (const char* ranks : {"1", "2", "3"}) {
    const std::string run = std::string("on-") + ranks;
    copy_run("part", run);
    expect_success({"train", "--output", folder_ / run, "--resume", "--local-ranks", ranks});
    expect_same_losses(run, "whole", 10);
    EXPECT_EQ(CheckpointReader::open(find_checkpoints(folder_ / run).back().folder).shards(),
              std::stoi(ranks));
  }
}

TEST_F(TrainOnRanks, EvaluationGivesTheNumbersOfOne) {
  const std::string run = trained_run();
  const auto evaluated = [&](const std::string& name, const Words& more) {
    Words words{"evaluate",    "--checkpoint", run, "--tokens",  tokens(1), "--context-lengths",
                "37,100",      "--windows",    "7", "--threads", "1",       "--json",
                folder_ / name};
    words.insert(words.end(), more.begin(), more.end());
    expect_success(words);
    return Json::parse(read_file(folder_ / name), name).at("lengths");
  };
  const Json alone = evaluated("one.json", {});
  for (const Words& more :
       {Words{"--local-ranks", "3", "--attention", "ring"},
        Words{"--local-ranks", "4", "--sequence-ranks", "2", "--attention", "all-gather"}}) {
    const Json ranked = evaluated("ranks.json", more);
    for (size_t i = 0; i < 2; ++i) {
      const Json& a = ranked.items()[i];
      const Json& e = alone.items()[i];
      EXPECT_EQ(a.at("tokens"), e.at("tokens"));
      EXPECT_EQ(a.at("windows"), e.at("windows"));
      EXPECT_NEAR(a.at("loss").as_real(), e.at("loss").as_real(), 1e-6);
    }
  }
}

TEST_F(TrainOnRanks, ResumingKeepsTheSequencesOfAStep) {
  expect_success(words("run", 8, {"--stop-after", "2"}));
  const std::string run = folder_ / "run";
  expect_error(this->run({"train", "--output", run, "--resume", "--local-ranks", "2",
                          "--sequence-ranks", "1"}),
               2,
               "a step would take 8 sequences (--batch-size 2 x --gradient-accumulation 2 x 2 data "
               "ranks), and took 4");
  expect_success({"train", "--output", run, "--resume", "--local-ranks", "2", "--sequence-ranks",
                  "1", "--gradient-accumulation", "1"});
}

TEST_F(TrainOnRanks, ResumingForgetsStoredRanksThatDoNotFit) {
  expect_success(words(
      "run", 8,
      {"--stop-after", "2", "--local-ranks", "4", "--sequence-ranks", "4", "--head-ranks", "2"}));
  const Outcome outcome =
      expect_success({"train", "--output", folder_ / "run", "--resume", "--local-ranks", "3"});
  EXPECT_NE(outcome.out.find("3 ranks (1 data x 3 sequence, zigzag, ring)"), std::string::npos)
      << outcome.out;
  expect_error(run({"train", "--output", folder_ / "run", "--resume", "--steps", "9",
                    "--local-ranks", "3", "--sequence-ranks", "2"}),
               2, "--sequence-ranks 2 does not divide the ranks");
}

TEST_F(TrainOnRanks, ContradictionsAreOneMessage) {
  const auto refused = [&](const Words& more, const std::string& part) {
    expect_error(run(words("refused", 2, more)), 2, part);
    EXPECT_FALSE(fs::exists(folder_ / "refused"));
  };
  refused({"--local-ranks", "3", "--sequence-ranks", "2"},
          "--sequence-ranks 2 does not divide the ranks");
  refused({"--local-ranks", "4", "--head-ranks", "3"},
          "--head-ranks 3 does not divide the ranks of a sequence");
  refused({"--local-ranks", "8", "--head-ranks", "8"}, "--head-ranks 8 does not divide the heads");
  refused({"--local-ranks", "2", "--inner-ranks", "1"}, "--inner-ranks 1 has no use");
  refused({"--local-ranks", "4", "--attention", "double-ring"},
          "--attention double-ring has no inner ring");
  refused({"--local-ranks", "4", "--attention", "double-ring", "--inner-ranks", "3"},
          "--inner-ranks 3 does not divide");
}

class TrainOnMpi : public TrainOnRanks {
 protected:
  void SetUp() override {
    if (!has_mpi()) GTEST_SKIP() << "NOT TESTED: this build has no MPI";
  }
};

TEST_F(TrainOnMpi, HasTheLossesOfOneAndGoesOnWithoutMpi) {
  expect_success(words("one", 8));
  const Outcome outcome = run_on_mpi(3, program(words("three", 8, {"--stop-after", "4"})));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  expect_success({"train", "--output", folder_ / "three", "--resume"});
  expect_same_losses("three", "one", 8);
}

TEST_F(TrainOnMpi, SaysThatNcclMovesNoHostMemory) {
  const Outcome outcome = run_on_mpi(2, program(words("nccl", 8, {"--communicator", "nccl"})));
  EXPECT_EQ(outcome.status, 2) << outcome.err;
  EXPECT_NE(outcome.err.find("--communicator nccl does not go with --device cpu"),
            std::string::npos)
      << outcome.err;
}

TEST_F(TrainOnMpi, ASignalToOneRankStopsAllAfterTheSameStep) {
  expect_success(words("whole", 60));
  Program program = start_with_known_pids(3, words("stopped", 60, {"--checkpoint-every", "2"}));
  ASSERT_TRUE(wait_for(folder_ / "stopped/checkpoint-000002"));
  send_to_rank(1, SIGUSR1);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const int64_t step = find_checkpoints(folder_ / "stopped").back().step;
  EXPECT_LT(step, 60);
  EXPECT_EQ(metric(folder_ / "stopped", "loss").size(), static_cast<size_t>(step));
  expect_success({"train", "--output", folder_ / "stopped", "--resume"});
  expect_same_losses("stopped", "whole", 60);
}

TEST_F(TrainOnMpi, AKilledRankEndsAllAndTheLastCheckpointGoesOnOnAnotherNumber) {
  expect_success(words("whole", 60));
  Program program = start_with_known_pids(4, words("killed", 60, {"--checkpoint-every", "2"}));
  ASSERT_TRUE(wait_for(folder_ / "killed/checkpoint-000004"));
  const auto start = std::chrono::steady_clock::now();
  send_to_rank(2, SIGKILL);
  EXPECT_NE(program.wait().status, 0);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  EXPECT_LT(find_checkpoints(folder_ / "killed").back().step, 60);
  expect_success({"train", "--output", folder_ / "killed", "--resume", "--local-ranks", "3"});
  expect_same_losses("killed", "whole", 60);
}

}  // namespace
}  // namespace ringbolt::testing
