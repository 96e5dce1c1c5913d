// Bad input: each its own exit status and one line "problem (why). What to try.".
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "io/checkpoint.h"
#include "io/hdf5.h"
#include "io/tokens.h"
#include "tests/apps/commands_fixture.h"

namespace ringbolt::testing {
namespace {

namespace fs = std::filesystem;

constexpr int kUsage = 2;
constexpr int kFile = 3;
constexpr int kOther = 4;

class BadInput : public Commands {
 protected:
  /// A copy of `file` with its content changed.
  template <class Change>
  std::string changed(const std::string& file, const std::string& name, const Change& change) {
    std::string bytes = read_file(file);
    change(bytes);
    write_file(folder_ / name, bytes);
    return folder_ / name;
  }
  /// `file`, damaged in the ways that files get damaged.
  std::vector<std::string> damaged(const std::string& file) {
    const std::string ending = fs::path(file).extension();
    return {folder_ / ("missing" + ending),
            changed(file, "empty" + ending, [](std::string& bytes) { bytes.clear(); }),
            changed(file, "truncated" + ending,
                    [](std::string& bytes) { bytes.resize(bytes.size() * 2 / 3); }),
            changed(file, "foreign" + ending, [](std::string& bytes) { bytes.assign(5000, 'x'); })};
  }
  void expect_refused_everywhere(const std::string& tokens, const std::string& checkpoint) {
    expect_error(run({"info", tokens}), kFile, tokens);
    expect_error(run({"evaluate", "--checkpoint", checkpoint, "--tokens", tokens}), kFile, tokens);
    expect_error(run({"train", "--model", "tiny", "--steps", "1", "--output", folder_ / "run",
                      "--tokens", tokens}),
                 kFile, tokens);
    EXPECT_FALSE(fs::exists(folder_ / "run"));
  }
  /// A token file whose third token is outside the vocabulary that the file states.
  std::string tokens_beyond_vocabulary() {
    const std::string good = tokens();
    const std::string path = folder_ / "beyond.h5";
    const hdf5::File from = hdf5::File::open(good, kTokensFormat);
    hdf5::File to = hdf5::File::create(path, from.stamp());
    for (const std::string name : {"tokenizer_name", "tokenizer_hash"})
      to.set_attribute(name, from.text_attribute(name));
    to.set_attribute("vocab_size", from.integer_attribute("vocab_size"));
    hdf5::Dataset ids = to.create_extendible("tokens", hdf5::Type::u16);
    std::vector<uint16_t> values(500, 7);
    values[2] = 259;
    ids.append<uint16_t>(values);
    hdf5::Dataset documents = to.create_dataset("documents", hdf5::Type::i64, {2});
    documents.write<int64_t>(0, std::vector<int64_t>{0, 500});
    to.close();
    return path;
  }
};

TEST_F(BadInput, TokenFilesThatAreMissingEmptyTruncatedOrForeign) {
  const std::string checkpoint = trained_run();
  for (const std::string& file : damaged(tokens())) {
    SCOPED_TRACE(file);
    expect_refused_everywhere(file, checkpoint);
  }
}

TEST_F(BadInput, TokenFileWithAFlippedBit) {
  const std::string checkpoint = trained_run();
  const std::string file = changed(tokens(), "flipped.h5", [](std::string& bytes) {
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  });
  expect_error(run({"evaluate", "--checkpoint", checkpoint, "--tokens", file}), kFile, file);
}

TEST_F(BadInput, ACheckpointIsNotATokenFileNorTheOtherWayRound) {
  const std::string checkpoint = trained_run() + "/checkpoint-000006";
  expect_error(run({"evaluate", "--checkpoint", checkpoint, "--tokens", checkpoint + "/index.h5"}),
               kFile, "index.h5");
  expect_error(run({"evaluate", "--checkpoint", tokens(), "--tokens", tokens()}), kFile, tokens());
}

TEST_F(BadInput, CheckpointFilesThatAreMissingEmptyTruncatedFlippedOrForeign) {
  const std::string good = trained_run() + "/checkpoint-000006";
  const std::string data = tokens();
  int64_t tried = 0;
  for (const std::string file : {"index.h5", "shard-00000.h5"}) {
    for (const std::string& bad : damaged(good + "/" + file)) {
      const std::string copy = folder_ / "copy";
      fs::remove_all(copy);
      fs::copy(good, copy);
      fs::remove(copy + "/" + file);
      if (fs::exists(bad)) fs::copy_file(bad, copy + "/" + file);
      SCOPED_TRACE(bad);
      expect_error(run({"evaluate", "--checkpoint", copy, "--tokens", data}), kFile, copy);
      expect_error(run({"generate", "--checkpoint", copy, "--tokenizer", "bytes"}), kFile, copy);
      ++tried;
    }
  }
  EXPECT_EQ(tried, 8);
}

TEST_F(BadInput, ACheckpointWithAFlippedBitIsFoundByItsChecksum) {
  const std::string good = trained_run() + "/checkpoint-000006";
  const std::string shard = good + "/shard-00000.h5";
  const auto size = static_cast<int64_t>(fs::file_size(shard));
  for (const int64_t place : {size / 4, size / 2, size * 3 / 4}) {
    const std::string copy = folder_ / ("copy-" + std::to_string(place));
    fs::copy(good, copy);
    std::string bytes = read_file(shard);
    bytes[static_cast<size_t>(place)] = static_cast<char>(bytes[static_cast<size_t>(place)] ^ 0x10);
    write_file(copy + "/shard-00000.h5", bytes);
    SCOPED_TRACE(place);
    // Resuming reads everything, weights and moments.
    const std::string run_folder = folder_ / ("run-" + std::to_string(place));
    fs::copy(folder_ / "trained", run_folder, fs::copy_options::recursive);
    fs::remove_all(run_folder + "/checkpoint-000006");
    fs::copy(copy, run_folder + "/checkpoint-000006");
    expect_error(run({"train", "--output", run_folder, "--resume", "--steps", "8"}), kFile,
                 "shard-00000.h5");
  }
}

TEST_F(BadInput, Llama2cFilesThatAreMissingEmptyTruncatedOrForeign) {
  // dim 8, hidden 8, 1 layer, 1 head, 1 kv head, 259 tokens, length 16, tied.
  const std::vector<int32_t> header{8, 8, 1, 1, 1, 259, 16};
  const int64_t floats = 259 * 8 + 8 + 4 * 64 + 8 + 3 * 64 + 8 + 2 * 16 * 4;
  std::string bytes(reinterpret_cast<const char*>(header.data()), header.size() * 4);
  bytes.resize(bytes.size() + static_cast<size_t>(floats) * 4);
  write_file(folder_ / "model.bin", bytes);
  const std::string data = tokens();
  expect_success(
      {"evaluate", "--checkpoint", folder_ / "model.bin", "--tokens", data, "--windows", "2"});
  for (const std::string& file : damaged(folder_ / "model.bin")) {
    SCOPED_TRACE(file);
    expect_error(run({"evaluate", "--checkpoint", file, "--tokens", data}), kFile, file);
    expect_error(run({"info", file}), kFile, file);
  }
  const std::string flipped = changed(folder_ / "model.bin", "flipped.bin", [](std::string& all) {
    all[3] = static_cast<char>(all[3] ^ 0x40);
  });
  expect_error(run({"info", flipped}), kFile, flipped);
}

TEST_F(BadInput, TokenIdsOutsideTheVocabulary) {
  const std::string file = tokens_beyond_vocabulary();
  const std::string trained = trained_run();
  expect_error(
      run({"evaluate", "--checkpoint", trained, "--tokens", file, "--context-lengths", "8"}), kFile,
      "259");
  expect_error(run({"train", "--model", "dim=32,layers=1,heads=2,vocab=100", "--tokens", tokens(),
                    "--steps", "1", "--context-length", "8", "--output", folder_ / "run"}),
               kUsage, "the model's vocabulary is 100");
  expect_error(run({"evaluate", "--checkpoint", trained, "--tokens", tokens(), "--bos-id", "259"}),
               kUsage, "the model's vocabulary is 259");
}

TEST_F(BadInput, SequencesLongerThanTheData) {
  expect_error(run({"train", "--model", "tiny", "--tokens", tokens(), "--steps", "1",
                    "--context-length", "12000", "--output", folder_ / "run"}),
               kUsage, "longer than the data");
  EXPECT_FALSE(fs::exists(folder_ / "run"));
  expect_error(run({"evaluate", "--checkpoint", trained_run(), "--tokens", tokens(),
                    "--context-lengths", "48,16K"}),
               kUsage, "longer than the data");
}

TEST_F(BadInput, UnknownCommandsAndOptionsNameTheNearest) {
  expect_error(run({"trian"}), kUsage, "Did you mean train?");
  expect_error(run({"train", "--contxt-length", "16K"}), kUsage, "Did you mean --context-length?");
  expect_error(run({"evaluate", "--context-length", "16K"}), kUsage,
               "Did you mean --context-lengths?");
  expect_error(run({"generate", "--temprature=0"}), kUsage, "Did you mean --temperature?");
  expect_error(run({"train", "--context-length", "16X"}), kUsage,
               "--context-length: '16X' is not a count");
  expect_error(run({"tokenize", "--tokenizer", "bytes", "--output", folder_ / "t.h5"}), kUsage,
               "no input is given");
}

TEST_F(BadInput, OptionsThatContradict) {
  const std::string file = tokens();
  expect_error(run(training("run", 1, {"--checkpoint", folder_ / "x"})), kUsage,
               "--checkpoint and --model contradict each other");
  expect_error(run({"evaluate", "--checkpoint", "x", "--tokens", file, "--text", "y"}), kUsage,
               "--text and --tokens contradict");
  expect_error(run({"evaluate", "--checkpoint", "x", "--tokens", file, "--score-overlap"}), kUsage,
               "--score-overlap needs --stride");
  expect_error(run({"evaluate", "--checkpoint", trained_run(), "--tokens", file, "--stride", "49"}),
               kUsage, "stride 49 exceeds");
  expect_error(run({"generate", "--checkpoint", "x", "--tokenizer", "bytes", "--prompt", "a",
                    "--prompt-file", "b"}),
               kUsage, "--prompt and --prompt-file contradict");
  expect_error(run({"train", "--model", "dim=30,layers=1,heads=4,vocab=259", "--tokens", file,
                    "--steps", "1", "--output", folder_ / "run"}),
               kUsage, "odd");
  expect_error(run(training("run", 1, {"--evaluate-every", "1"})), kUsage,
               "--evaluate-every needs --validation-tokens");
  expect_error(run(training("run", 1, {"--cuda-graph"})), kUsage,
               "--cuda-graph does not go with --device cpu");
  expect_error(
      run(training("run", 1, {"--cuda-graph", "--device", "cuda", "--documents", "separate"})),
      kUsage, "--cuda-graph does not go with --documents separate");
  expect_error(run({"bench", "--what", "step", "--cuda-graph"}), kUsage,
               "--cuda-graph does not go with --device cpu");
  expect_error(run({"bench", "--what", "ring", "--cuda-graph"}), kUsage, "--cuda-graph has no use");
}

TEST_F(BadInput, BenchOptionsThatTheWorkloadHasNoUseFor) {
  const std::vector<Words> idle{{"matmul", "--head-dims", "64"},
                                {"step", "--attention-lengths", "1K"},
                                {"step", "--heads", "4"},
                                {"rotary", "--kv-heads", "4"},
                                {"attention", "--model", "30m"},
                                {"ring", "--context-length", "1K"},
                                {"rotary", "--context-length", "1K"},
                                {"forward", "--batch-size", "2"},
                                {"matmul", "--recompute", "block"},
                                {"all", "--layout", "zigzag"}};
  for (const Words& words : idle)
    expect_error(run({"bench", "--what", words[0], words[1], words[2]}), kUsage,
                 words[1] + " has no use");
  expect_error(run({"bench", "--what", "rowwise", "--heads", "4"}), kUsage,
               "(only --what attention or ring takes it)");
}

TEST_F(BadInput, OutputsThatCannotBeWritten) {
  const std::string data = tokens();
  write_file(folder_ / "file", "a file, no folder");
  expect_error(
      run({"tokenize", "--tokenizer", "bytes", "--output", folder_ / "file/t.h5", "-"}, "text"),
      kFile, "file/t.h5");
  expect_error(run({"tokenize", "--tokenizer", "bytes", "--output", "/proc/t.h5", "-"}, "text"),
               kFile, "/proc/t.h5");
  expect_error(run({"train", "--model", "tiny", "--tokens", data, "--steps", "1", "--output",
                    folder_ / "file"}),
               kFile, folder_ / "file");
  expect_error(
      run({"train", "--model", "tiny", "--tokens", data, "--steps", "1", "--output", "/proc/run"}),
      kFile, "/proc/run");
  expect_error(run({"info", "--json", folder_ / "file/x.json"}), kFile, "x.json");
}

TEST_F(BadInput, TextThatIsMissingOrEmpty) {
  expect_error(run({"tokenize", "--tokenizer", "bytes", "--output", folder_ / "t.h5",
                    folder_ / "missing.txt"}),
               kFile, "missing.txt");
  expect_error(run({"tokenize", "--tokenizer", "bytes", "--output", folder_ / "t.h5", "-"}, ""),
               kUsage, "no tokens");
  expect_error(
      run({"tokenize", "--tokenizer", folder_ / "missing.model", "--output", folder_ / "t.h5", "-"},
          "x"),
      kFile, "missing.model");
  EXPECT_FALSE(fs::exists(folder_ / "t.h5"));
}

TEST_F(BadInput, ALossThatIsNotFiniteStopsAtItsStepAndKeepsTheLastCheckpoint) {
  const Outcome outcome = run(training("run", 20,
                                       {"--learning-rate", "1e30", "--clip-norm", "0", "--schedule",
                                        "constant", "--checkpoint-every", "1"}));
  expect_error(outcome, kOther, "training diverged");
  const std::vector<FoundCheckpoint> kept = find_checkpoints(folder_ / "run");
  ASSERT_FALSE(kept.empty());
  EXPECT_NE(outcome.err.find("step " + std::to_string(kept.back().step + 1) + ": "),
            std::string::npos)
      << outcome.err;
  EXPECT_NE(outcome.err.find("The last good checkpoint is " + kept.back().folder),
            std::string::npos)
      << outcome.err;
  EXPECT_EQ(CheckpointReader::open(kept.back().folder).info().step, kept.back().step);
}

TEST_F(BadInput, AFullDiskLeavesTheEarlierCheckpointWhole) {
  const std::string disk = folder_ / "disk";
  fs::create_directories(disk);
  if (geteuid() != 0 || mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "NOT TESTED: a full disk (mounting a small tmpfs needs root)";
  }
  // Weights and moments of 38 000 parameters take 0.45 MB: there is room for two checkpoints and
  // not for a third.
  const Outcome outcome =
      run(training("disk/run", 12, {"--checkpoint-every", "2", "--keep-checkpoints", "0"}));
  expect_error(outcome, kFile, "disk/run");
  const std::vector<FoundCheckpoint> kept = find_checkpoints(disk + "/run");
  EXPECT_FALSE(kept.empty());
  for (const FoundCheckpoint& checkpoint : kept) {
    EXPECT_EQ(run({"info", checkpoint.folder}).status, 0);
    EXPECT_EQ(run({"generate", "--checkpoint", checkpoint.folder, "--tokenizer", "bytes",
                   "--max-tokens", "3"})
                  .status,
              0);
  }
  EXPECT_EQ(umount(disk.c_str()), 0);
}

TEST_F(BadInput, StandardOutputThatIsFull) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "NOT TESTED: there is no /dev/full";
  Outcome outcome = run_ringbolt({"info"}, "", {}, "/dev/full");
  expect_error(outcome, kFile, "standard output");
}

}  // namespace
}  // namespace ringbolt::testing
