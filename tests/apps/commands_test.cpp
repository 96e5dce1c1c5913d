// The commands as a user runs them: what they print, write and return.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>

#include "io/json.h"
#include "io/tokens.h"
#include "tests/apps/commands_fixture.h"
#include "tests/support/data.h"

namespace ringbolt::testing {
namespace {

namespace fs = std::filesystem;

TEST_F(Commands, HelpListsTheCommandsAndEachHasExamples) {
  const Outcome help = expect_success({"--help"});
  for (const std::string command : {"tokenize", "train", "evaluate", "generate", "bench", "info"}) {
    EXPECT_NE(help.out.find("  " + command + " "), std::string::npos) << command;
    const Outcome own = expect_success({command, "--help"});
    EXPECT_EQ(own.out.find("Usage: ringbolt " + command), 0U) << own.out;
    EXPECT_NE(own.out.find("\nExamples:\n"), std::string::npos) << command;
    EXPECT_NE(own.out.find("--config FILE"), std::string::npos) << command;
    EXPECT_NE(own.out.find("--json FILE"), std::string::npos) << command;
    EXPECT_EQ(own.out, expect_success({"help", command}).out);
  }
  EXPECT_EQ(expect_success({"--version"}).out.find("ringbolt "), 0U);
}

TEST_F(Commands, BenchTimesEveryStrategyOfAttentionOnRanks) {
  const std::vector<std::string> small = {"bench", "--local-ranks", "4",   "--attention-lengths",
                                          "256",   "--head-dims",   "16",  "--heads",
                                          "4",     "--kv-heads",    "2",   "--dtype",
                                          "f32",   "--seconds",     "0.01"};
  std::vector<std::string> words = small;
  words.insert(words.end(), {"--what", "ring", "--one-rank", "--json", "-"});
  const Json result = Json::parse(expect_success(words).out, "standard output");
  std::vector<std::string> names;
  for (const Json& row : result.at("results").items()) {
    names.push_back(row.at("name").as_text());
    EXPECT_EQ(row.at("ranks").as_integer(), 4);
    EXPECT_GT(row.at("forward").at("bytes").as_integer(), 0);
    EXPECT_GT(row.at("backward").at("median_seconds").as_real(), 0);
    EXPECT_NEAR(row.at("speed_up_over_one_rank").as_real() *
                    (row.at("forward").at("median_seconds").as_real() +
                     row.at("backward").at("median_seconds").as_real()),
                row.at("one_rank_seconds").as_real(), 1e-9);
    EXPECT_GT(row.at("one_rank_seconds").as_real(), 0);
  }
  for (const char* name : {"ring 4", "ring 4, queries in backward", "all-gather 4", "all-to-all 4",
                           "all-to-all 2, ring 2"}) {
    EXPECT_EQ(std::count(names.begin(), names.end(), name), 1) << name;
  }
  EXPECT_EQ(run_ringbolt(small).status, 2) << "other workloads are those of one rank";
}

TEST_F(Commands, BenchTimesWorkloadsOfOneRank) {
  for (const std::string what : {"matmul", "attention", "rowwise", "step"}) {
    Words words{"bench", "--what", what, "--dtype", "f32", "--seconds", "0.001", "--json", "-"};
    const Words shape =
        what == "attention"
            ? Words{"--attention-lengths", "64", "--head-dims", "16"}
            : Words{"--model", "dim=32,layers=1,heads=2,ffn=64,vocab=64", "--context-length", "64"};
    words.insert(words.end(), shape.begin(), shape.end());
    const Outcome outcome = expect_success(words);
    EXPECT_GT(Json::parse(outcome.out, "standard output").at("results").items().size(), 0U) << what;
  }
}

TEST_F(Commands, BenchComparesTheRotaryTableWithALayersForward) {
  const Outcome outcome =
      expect_success({"bench", "--what", "rotary", "--model", "dim=32,layers=1,heads=2,ffn=64",
                      "--dtype", "f32", "--seconds", "0.001", "--json", "-"});
  const Json results = Json::parse(outcome.out, "standard output").at("results");
  ASSERT_EQ(results.items().size(), 1U);
  const Json& row = results.items()[0];
  const double layer = row.at("layer_forward_matrix_seconds").as_real() +
                       row.at("layer_forward_attention_seconds").as_real();
  EXPECT_GT(layer, 0);
  EXPECT_EQ(row.at("positions").as_integer(), 1 << 20);
  EXPECT_NEAR(row.at("share_of_layer_forward").as_real(),
              row.at("median_seconds").as_real() / layer, 1e-12);
}

TEST_F(Commands, TokenizeKeepsEveryByteAndDocument) {
  write_file(folder_ / "b.txt", "second\n");
  write_file(folder_ / "a.txt", "first \xC3\xA9\r\n");
  const std::string file = folder_ / "t.h5";
  const Outcome outcome = expect_success(
      {"tokenize", "--tokenizer", "bytes", "--output", file, "--add-bos", folder_.path()});
  EXPECT_NE(outcome.out.find("19 tokens in 2 documents"), std::string::npos) << outcome.out;
  const TokenDataset data = TokenDataset::open(file);
  std::vector<int32_t> ids(static_cast<size_t>(data.tokens()));
  data.read(0, ids);
  EXPECT_EQ(data.offsets(), (std::vector<int64_t>{0, 11, 19}));
  EXPECT_EQ(ids[0], 1);
  EXPECT_EQ(ids[11], 1);
  EXPECT_EQ(make_byte_tokenizer()->decode(ids), "first \xC3\xA9\r\nsecond\n");
}

TEST_F(Commands, TokenizeReportsAsJsonOnStandardOutput) {
  const Outcome outcome = expect_success(
      {"tokenize", "--tokenizer", "bytes", "--output", folder_ / "t.h5", "--json", "-", "-"},
      "twelve bytes");
  const Json result = Json::parse(outcome.out, "standard output");
  EXPECT_EQ(result.at("tokens").as_integer(), 12);
  EXPECT_EQ(result.at("documents").as_integer(), 1);
  EXPECT_EQ(result.at("tokens_per_byte").as_real(), 1.0);
}

TEST_F(Commands, InfoDescribesTokensCheckpointsAndTheBuild) {
  const Json system = Json::parse(expect_success({"info", "--json", "-"}).out, "info");
  EXPECT_FALSE(system.at("system").at("libraries").members().empty());
  const std::string run = trained_run();
  const Json files = Json::parse(
      expect_success({"info", "--json", "-", tokens(), run, run + "/checkpoint-000006"}).out,
      "info");
  ASSERT_EQ(files.at("files").size(), 3U);
  EXPECT_EQ(files.at("files").at(size_t{0}).at("tokens").as_integer(), 12000);
  for (const size_t i : {size_t{1}, size_t{2}}) {
    const Json& checkpoint = files.at("files").at(i);
    EXPECT_EQ(checkpoint.at("step").as_integer(), 6);
    EXPECT_EQ(checkpoint.at("model").at("hidden_size").as_integer(), 32);
    EXPECT_EQ(checkpoint.at("tensors").size(), 3U * (2 * 9 + 3));  // weights and two moments
  }
}

TEST_F(Commands, TrainLearnsAndLeavesItsOptionsMetricsAndCheckpoint) {
  expect_success(training(
      "run", 30,
      {"--validation-tokens", tokens(1), "--evaluate-every", "10", "--json", folder_ / "r.json"}));
  const std::string run = folder_ / "run";
  const std::string metrics = read_file(run + "/metrics.jsonl");
  std::vector<Json> lines;
  for (size_t begin = 0, end; (end = metrics.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    lines.push_back(Json::parse(metrics.substr(begin, end - begin), "metrics"));
  }
  ASSERT_EQ(lines.size(), 30U);
  EXPECT_LT(lines.back().at("loss").as_real(), lines.front().at("loss").as_real() - 1.0);
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i].at("step").as_integer(), static_cast<int64_t>(i) + 1);
    EXPECT_EQ(lines[i].at("tokens").as_integer(), (static_cast<int64_t>(i) + 1) * 4 * 48);
    EXPECT_EQ(lines[i].find("validation_loss") != nullptr, (i + 1) % 10 == 0) << "step " << i + 1;
    EXPECT_GT(lines[i].at("wall").at("full_flops_per_second").as_real(),
              lines[i].at("wall").at("causal_flops_per_second").as_real());
  }
  EXPECT_EQ(read_json_file(run + "/options.json").at("learning-rate").as_real(), 3e-3);
  EXPECT_TRUE(fs::exists(run + "/checkpoint-000030/index.h5"));
  EXPECT_EQ(read_json_file(folder_ / "r.json").at("step").as_integer(), 30);
}

TEST_F(Commands, FineTuningKeepsWhatPretrainingWas) {
  const std::string run = trained_run();
  expect_success({"train", "--checkpoint", run, "--tokens", tokens(), "--context-length", "96",
                  "--rope-base", "1e6", "--batch-size", "1", "--steps", "2", "--output",
                  folder_ / "tuned"});
  const Json info =
      Json::parse(expect_success({"info", "--json", "-", folder_ / "tuned"}).out, "info")
          .at("files")
          .at(size_t{0});
  EXPECT_EQ(info.at("model").at("rope_theta").as_real(), 1e6);
  EXPECT_EQ(info.at("model").at("max_position_embeddings").as_integer(), 96);
  EXPECT_EQ(info.at("training").at("pretraining").at("rope_base").as_real(), 10000);
  EXPECT_EQ(info.at("training").at("pretraining").at("context_length").as_integer(), 48);
}

TEST_F(Commands, EvaluateScoresEveryTargetOnce) {
  const std::string run = trained_run();
  const Json result =
      Json::parse(expect_success({"evaluate", "--checkpoint", run, "--tokens", tokens(1),
                                  "--context-lengths", "32,48,97", "--tokens-per-length", "1K",
                                  "--plot", folder_ / "p.svg", "--json", "-"})
                      .out,
                  "evaluate");
  ASSERT_EQ(result.at("lengths").size(), 3U);
  const std::vector<int64_t> windows{32, 21, 10};
  for (size_t i = 0; i < 3; ++i) {
    const Json& length = result.at("lengths").at(i);
    EXPECT_EQ(length.at("windows").as_integer(), windows[i]);
    EXPECT_EQ(length.at("tokens").as_integer(),
              windows[i] * length.at("context_length").as_integer());
    EXPECT_NEAR(length.at("perplexity").as_real(), std::exp(length.at("loss").as_real()), 1e-9);
    double sum = 0;
    int64_t counted = 0;
    for (const Json& bucket : length.at("buckets").items()) {
      sum += bucket.at("loss").as_real() * static_cast<double>(bucket.at("tokens").as_integer());
      counted += bucket.at("tokens").as_integer();
    }
    EXPECT_EQ(counted, length.at("tokens").as_integer());
    EXPECT_NEAR(sum / static_cast<double>(counted), length.at("loss").as_real(), 1e-9);
  }
  EXPECT_NE(read_file(folder_ / "p.svg").find("predicted reach"), std::string::npos);
}

TEST_F(Commands, EvaluateComparesWithEarlierResults) {
  const std::string trained = trained_run();
  const Words words{"evaluate", "--checkpoint", trained, "--tokens", tokens(), "--windows", "4"};
  const auto with = [&](const Words& more) {
    Words all = words;
    all.insert(all.end(), more.begin(), more.end());
    return expect_success(all);
  };
  with({"--context-lengths", "24,48", "--rope-base", "1e6", "--json", folder_ / "large.json"});
  const Outcome both = with({"--context-lengths", "48,96", "--compare", folder_ / "large.json",
                             "--plot", folder_ / "both.svg"});
  EXPECT_NE(both.out.find("24"), std::string::npos) << both.out;
  const std::string plot = read_file(folder_ / "both.svg");
  EXPECT_EQ(plot.find("<svg"), plot.rfind("<svg"));
  Words bad = words;
  bad.insert(bad.end(), {"--compare", trained + "/options.json"});
  expect_error(run(bad), 2, "holds no evaluation");
}

TEST_F(Commands, EvaluateOfTextIsEvaluateOfItsTokens) {
  const std::string run = trained_run();
  write_file(folder_ / "text.txt", some_text(2));
  const auto loss = [&](const Words& source) {
    Words words{"evaluate", "--checkpoint", run, "--context-lengths", "48", "--windows",
                "9",        "--json",       "-"};
    words.insert(words.end(), source.begin(), source.end());
    return Json::parse(expect_success(words).out, "evaluate")
        .at("lengths")
        .at(size_t{0})
        .at("loss")
        .as_real();
  };
  EXPECT_EQ(loss({"--text", folder_ / "text.txt", "--tokenizer", "bytes"}),
            loss({"--tokens", tokens(2)}));
}

TEST_F(Commands, OverlapIsScoredOnlyWhenAsked) {
  const std::string run = trained_run();
  const auto counted = [&](const Words& more) {
    Words words{"evaluate", "--checkpoint", run, "--tokens", tokens(), "--context-lengths",
                "48",       "--windows",    "5", "--stride", "16",     "--json",
                "-"};
    words.insert(words.end(), more.begin(), more.end());
    return Json::parse(expect_success(words).out, "evaluate")
        .at("lengths")
        .at(size_t{0})
        .at("tokens")
        .as_integer();
  };
  EXPECT_EQ(counted({}), 48 + 4 * 16);
  EXPECT_EQ(counted({"--score-overlap"}), 5 * 48);
}

TEST_F(Commands, GenerateIsAFunctionOfItsSeed) {
  const std::string run = trained_run();
  const auto text = [&](const Words& more) {
    Words words{"generate",  "--checkpoint", run, "--tokenizer", "bytes", "--prompt",
                "the rope ", "--max-tokens", "40"};
    words.insert(words.end(), more.begin(), more.end());
    return expect_success(words).out;
  };
  const std::string greedy = text({"--temperature", "0"});
  EXPECT_EQ(greedy.find("the rope "), 0U);
  EXPECT_EQ(greedy, text({"--temperature", "0", "--seed", "7"}));
  EXPECT_EQ(text({"--seed", "7"}), text({"--seed", "7"}));
  EXPECT_NE(text({"--seed", "7"}), text({"--seed", "8"}));
  EXPECT_EQ(text({"--top-k", "1", "--seed", "9"}), greedy);
}

TEST_F(Commands, TheTextOfAPublishedModelIsTheReferenceByteForByte) {
  RINGBOLT_NEEDS_DATA();
  const std::string data = testing_support::data_path("").string();
  const Outcome outcome = expect_success(
      {"generate", "--checkpoint", data + "/checkpoints/stories260K.bin", "--tokenizer",
       data + "/tokenizers/tok512/tok512.model", "--temperature", "0", "--max-tokens", "200"});
  EXPECT_EQ(outcome.out, read_file(data + "/reference/stories260K_greedy200_expected.txt"));
}

TEST_F(Commands, OptionsComeFromVariablesAndFiles) {
  write_file(folder_ / "run.ini", "steps = 3\nbatch-size = 1\n");
  const Outcome outcome =
      run({"train", "--config", folder_ / "run.ini", "--model", "tiny", "--tokens", tokens(),
           "--output", folder_ / "run", "--batch-size", "2"},
          "", {{"RINGBOLT_CONTEXT_LENGTH", "1K"}, {"RINGBOLT_STEPS", "9"}});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const Json options = read_json_file(folder_ / "run/options.json");
  EXPECT_EQ(options.at("steps").as_integer(), 3);
  EXPECT_EQ(options.at("batch-size").as_integer(), 2);
  EXPECT_EQ(options.at("context-length").as_integer(), 1024);
}

TEST_F(Commands, ALogFileGetsPlainLines) {
  const Outcome outcome =
      run(training("run", 5), "", {{"RINGBOLT_PROGRESS", "auto"}, {"TERM", "xterm"}});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("train 100%  5/5 steps"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find('\r'), std::string::npos);
  EXPECT_EQ(outcome.err.find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace ringbolt::testing
