// ringbolt rope, and rotary methods as options of the other commands.
#include <gtest/gtest.h>

#include <fstream>

#include "io/json.h"
#include "tests/apps/commands_fixture.h"

namespace ringbolt {
namespace {

using testing::Commands;
using testing::Outcome;
using testing::read_file;

Json parsed(const Outcome& outcome) { return Json::parse(outcome.out, "the result"); }

bool has(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

TEST_F(Commands, RopeLawPredictsLlama2) {
  const Json law = parsed(expect_success({"rope",           "law",
                                          "--rope-base",    "1e4",
                                          "--train-length", "4096",
                                          "--tune-length",  "16K",
                                          "--tune-base",    "1e6",
                                          "--want-length",  "4K,128K",
                                          "--json",         "-",
                                          "--progress",     "none",
                                          "--plot-periods", folder_ / "p.svg",
                                          "--plot-reach",   folder_ / "r.svg",
                                          "--plot-bound",   folder_ / "b.svg"}));
  EXPECT_EQ(law.at("critical_dimension").as_integer(), 92);
  EXPECT_NEAR(law.at("critical_base").as_real(), 71738.4, 0.1);
  EXPECT_NEAR(law.at("reach").at("tokens").as_real(), 129027, 1);
  EXPECT_EQ(law.at("reach").at("branch").as_text(), "larger base");
  EXPECT_NEAR(law.at("smaller_bases").at(size_t{2}).as_real(), 2607.6, 0.1);
  EXPECT_EQ(law.at("first_negative_distance").as_integer(), 1707);
  EXPECT_EQ(law.at("tuned_first_negative_distance").as_integer(), 27115);
  EXPECT_EQ(law.at("pairs").size(), 64U);
  const Json& wanted = law.at("wanted").at(size_t{1});
  EXPECT_NEAR(wanted.at("law_base").as_real(), 1378414, 1);
  EXPECT_NEAR(wanted.at("survey_base").as_real(), 1022122, 1);
  EXPECT_FALSE(wanted.at("reached").as_bool());  // 129027 < 131072
  EXPECT_TRUE(law.at("wanted").at(size_t{0}).at("reached").as_bool());
  EXPECT_TRUE(has(read_file(folder_ / "p.svg"), "trained at 4K"));
  EXPECT_TRUE(has(read_file(folder_ / "r.svg"), "beta_0"));
  EXPECT_TRUE(has(read_file(folder_ / "b.svg"), "below 0 from 1707"));
}

TEST_F(Commands, RopeLawWarnsOfSmallBasesOnly) {
  const auto text = [&](const std::string& base) {
    return expect_success({"rope", "law", "--tune-base", base, "--progress", "none"}).out;
  };
  EXPECT_TRUE(has(text("500"), "does not retrieve"));
  EXPECT_FALSE(has(text("1e6"), "does not retrieve"));
}

TEST_F(Commands, RopeReadsAHuggingFaceConfiguration) {
  std::ofstream(folder_ / "config.json")
      << R"({"model_type": "llama", "vocab_size": 32, "hidden_size": 256, "intermediate_size": 64,
             "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 131072,
             "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                                 "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})";
  const std::string config = folder_ / "config.json";
  const Json law = parsed(expect_success(
      {"rope", "law", "--model-config", config, "--json", "-", "--progress", "none"}));
  EXPECT_EQ(law.at("rope_base").as_real(), 5e5);
  EXPECT_EQ(law.at("train_length").as_integer(), 8192);
  EXPECT_EQ(law.at("tune_length").as_integer(), 131072);
  const Json table =
      parsed(expect_success({"rope", "table", "--model-config", config, "--json", "-"}));
  const Json& method = table.at("methods").at(size_t{0});
  EXPECT_NEAR(method.at("frequencies").at(size_t{63}).as_real(), 3.068925988914511e-7, 1e-20);
  EXPECT_EQ(method.at("rope_parameters").at("rope_type").as_text(), "llama3");
}

TEST_F(Commands, RopeTableComparesTwoMethods) {
  const Json table =
      parsed(expect_success({"rope", "table", "--rope-method", "yarn", "--rope-factor", "16",
                             "--compare", "linear", "--json", "-"}));
  ASSERT_EQ(table.at("methods").size(), 2U);
  const Json& yarn = table.at("methods").at(size_t{0});
  EXPECT_NEAR(yarn.at("frequencies").at(size_t{33}).as_real(), 0.004600435467850348, 1e-15);
  EXPECT_NEAR(yarn.at("attention_factor").as_real(), 1.2772589, 1e-7);
  EXPECT_NEAR(table.at("methods").at(size_t{1}).at("frequencies").at(size_t{0}).as_real(), 1.0 / 16,
              1e-12);
  const std::string text =
      expect_success({"rope", "table", "--rope-method", "yarn", "--rope-factor", "16", "--compare",
                      R"({"rope_type": "dynamic", "factor": 2})", "--plot", folder_ / "t.svg"})
          .out;
  EXPECT_TRUE(has(text, "period 2 / 1"));
  EXPECT_TRUE(has(read_file(folder_ / "t.svg"), "yarn x16"));
}

TEST_F(Commands, RopeOptionsThatWouldDoNothingAreRefused) {
  const auto error = [&](const Words& words) {
    Words all{"rope", "table"};
    all.insert(all.end(), words.begin(), words.end());
    const Outcome outcome = run(all);
    EXPECT_EQ(outcome.status, 2);
    return outcome.err;
  };
  EXPECT_TRUE(has(error({"--rope-factor", "4"}), "--rope-factor changes nothing"));
  EXPECT_TRUE(has(error({"--rope-method", "yarn"}), "has no factor"));
  EXPECT_TRUE(has(error({"--rope-window", "4"}), "--rope-window changes nothing"));
  EXPECT_TRUE(has(error({"--rope-original-length", "64"}), "changes nothing"));
  EXPECT_TRUE(has(error({"--rope-method", "self-extend"}), "no window"));
  EXPECT_TRUE(has(error({"--rope-scaling", R"({"type": "yarn", "factr": 4})"}), "factor"));
  EXPECT_TRUE(has(run({"rope", "lav"}).err, "rope law"));
}

TEST_F(Commands, TrainKeepsTheMethodWithTheModel) {
  const std::string first = trained_run();
  expect_success({"train", "--checkpoint", first, "--tokens", tokens(), "--context-length", "96",
                  "--rope-method", "yarn", "--rope-factor", "2", "--rope-resonance", "--steps", "2",
                  "--batch-size", "1", "--output", folder_ / "tuned"});
  const Json model = parsed(expect_success({"info", "--json", "-", folder_ / "tuned"}))
                         .at("files")
                         .at(size_t{0})
                         .at("model");
  const Json& scaling = model.at("rope_scaling");
  EXPECT_EQ(scaling.at("rope_type").as_text(), "yarn");
  EXPECT_EQ(scaling.at("factor").as_real(), 2);
  EXPECT_EQ(scaling.at("original_max_position_embeddings").as_integer(), 48);  // of the first run
  EXPECT_TRUE(scaling.at("resonance").as_bool());
  const auto loss = [&](const Words& more) {
    Words words{"evaluate",
                "--checkpoint",
                folder_ / "tuned",
                "--tokens",
                tokens(1),
                "--context-lengths",
                "96",
                "--windows",
                "2",
                "--json",
                "-"};
    words.insert(words.end(), more.begin(), more.end());
    return parsed(expect_success(words)).at("lengths").at(size_t{0}).at("loss").as_real();
  };
  EXPECT_EQ(loss({}), loss({"--rope-scaling",
                            R"({"type": "yarn", "factor": 2, "resonance": true,
                                "original_max_position_embeddings": 48})"}));
  EXPECT_NE(loss({}), loss({"--rope-method", "default"}));
  EXPECT_NE(loss({}), loss({"--position-map", "recurrent"}));
}

TEST_F(Commands, TrainOnMappedPositionsResumesToTheSameWeights) {
  for (const char* map : {"pose", "randpos", "skip-align"}) {
    const Words mapped{"--position-map", map, "--position-reach", "192"};
    const std::string whole = std::string("whole-") + map;
    const std::string parts = std::string("parts-") + map;
    expect_success(training(whole, 4, mapped));
    Words stopped = mapped;
    stopped.insert(stopped.end(), {"--stop-after", "2"});
    expect_success(training(parts, 4, stopped));
    expect_success({"train", "--output", folder_ / parts, "--resume"});
    const auto last_loss = [&](const std::string& name) {
      const std::string metrics = read_file(folder_ / (name + "/metrics.jsonl"));
      const std::string line = metrics.substr(metrics.rfind("{\"step\":4"));
      return line.substr(0, line.find("\"wall\""));
    };
    EXPECT_EQ(last_loss(whole), last_loss(parts)) << map;
  }
  const Outcome short_reach =
      run(training("short", 2, {"--position-map", "pose", "--position-reach", "8"}));
  EXPECT_TRUE(has(short_reach.err, "--position-reach"));
}

TEST_F(Commands, GenerateRunsWithMethodsThatCacheUnrotatedKeysAndTwoParts) {
  const std::string trained = trained_run();
  const auto ids = [&](const Words& more) {
    Words words{"generate",
                "--checkpoint",
                trained,
                "--tokenizer",
                "bytes",
                "--prompt",
                some_text().substr(0, 100),
                "--temperature",
                "0",
                "--max-tokens",
                "8",
                "--json",
                "-"};
    words.insert(words.end(), more.begin(), more.end());
    return parsed(expect_success(words)).at("ids").size();
  };
  EXPECT_GT(ids({"--rope-method", "dynamic", "--rope-factor", "2"}), 0U);
  EXPECT_GT(ids({"--rope-method", "self-extend", "--rope-window", "16", "--rope-group", "4"}), 0U);
}

}  // namespace
}  // namespace ringbolt
