// What ringbolt plan foresees, and that evaluate keeps to what it foresaw.
#include <gtest/gtest.h>

#include "io/json.h"
#include "tests/apps/commands_fixture.h"

namespace ringbolt::testing {
namespace {

const std::vector<std::string> kCluster{"plan",
                                        "--model",
                                        "tinyllama-1.1b",
                                        "--context-lengths",
                                        "16K,1M",
                                        "--ranks",
                                        "1,16",
                                        "--memory",
                                        "80",
                                        "--matmul-rate",
                                        "700",
                                        "--attention-rate",
                                        "600",
                                        "--copy-rate",
                                        "4000",
                                        "--node-link",
                                        "400",
                                        "--network-link",
                                        "50",
                                        "--json",
                                        "-"};

TEST_F(Commands, PlanPredictsStepsOfRatesThatAreStated) {
  Words words = kCluster;
  words.insert(words.end(), {"--attention-backward-rate", "500"});
  const Json rows = Json::parse(expect_success(words).out, "standard output").at("results");
  ASSERT_EQ(rows.items().size(), 4U);
  for (const Json& row : rows.items()) {
    const Json& seconds = row.at("seconds");
    double sum = 0;
    for (const char* part :
         {"products", "attention", "exposed", "rowwise", "optimizer", "reduction"})
      sum += seconds.at(part).as_real();
    EXPECT_NEAR(sum, seconds.at("total").as_real(), 1e-9 * sum);
    EXPECT_EQ(row.at("data").as_integer() * row.at("sequence").as_integer(),
              row.at("ranks").as_integer());
    EXPECT_GT(row.at("tokens_per_second").as_real(), 0);
  }
  words.push_back("--all-strategies");
  EXPECT_GT(Json::parse(expect_success(words).out, "standard output").at("results").items().size(),
            20U);
}

TEST_F(Commands, PlanNamesTheRateThatIsMissing) {
  const Outcome outcome = run(kCluster);
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(outcome.err.find("times need --attention-backward-rate ("), std::string::npos)
      << outcome.err;
}

// A million tokens of a 7B model: 13.5 GB of weights and one layer's streams, 2 bytes x (hidden
// 4096
// + queries, keys, values and output 4 x 4096) a token, on one GPU of 80 GB; training needs far
// more.
TEST_F(Commands, PlanForEvaluateIsALayerAtATime) {
  const auto plan = [&](const Words& more) {
    Words words{"plan", "--model", "llama2-7b", "--context-lengths", "1M", "--memory",
                "72",   "--json",  "-"};
    words.insert(words.end(), more.begin(), more.end());
    return Json::parse(expect_success(words).out, "standard output").at("results");
  };
  const Json rows = plan({"--for", "evaluate", "--ranks", "1,8"});
  ASSERT_EQ(rows.items().size(), 2U);
  const double one = rows.at(size_t{0}).at("total_bytes").as_real();
  EXPECT_GT(one, 13.4e9 + 1048576.0 * 2 * 5 * 4096);
  EXPECT_LT(one, 72 * 1073741824.0);
  EXPECT_LT(rows.at(size_t{1}).at("total_bytes").as_real(), one / 2);
  const Json training = plan({"--ranks", "1"});
  EXPECT_GT(training.at(size_t{0}).at("total_bytes").as_real(), 5 * one);
  EXPECT_FALSE(training.at(size_t{0}).at("fits").as_bool());
}

TEST_F(Commands, PlanForEvaluateRefusesRates) {
  const Outcome outcome = run({"plan", "--for", "evaluate", "--matmul-rate", "700"});
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(outcome.err.find("--for evaluate has no step times ("), std::string::npos)
      << outcome.err;
}

TEST_F(Commands, PlanForEvaluateRefusesChoicesOfTraining) {
  for (const Words& more : {Words{"--recompute", "block"}, Words{"--shard", "optimizer"}}) {
    Words words{"plan", "--for", "evaluate"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = run(words);
    EXPECT_NE(outcome.status, 0);
    EXPECT_NE(outcome.err.find(more[0] + " says nothing of --for evaluate ("), std::string::npos)
        << outcome.err;
  }
}

TEST_F(Commands, PlanKnowsWhatAttentionInFp8Takes) {
  const auto attention = [](const Words& more) {
    Words words{"plan", "--for",  "evaluate", "--context-lengths", "1M", "--ranks",
                "8",    "--json", "-"};
    words.insert(words.end(), more.begin(), more.end());
    const Json row = Json::parse(expect_success(words).out, "plan").at("results").at(size_t{0});
    return row.at("bytes").at("attention").as_real();
  };
  // 7B on a ring of 8: two blocks on their way, in fp8 of half the bytes, and codes of q, k and v;
  // f32 sums as before.
  const double block = 2.0 * 4096 * (1 << 17);
  const double sums = 4.0 * 4096 * (1 << 17);
  EXPECT_NEAR(attention({}), 2 * 2 * block + sums, 1e-3 * block);
  EXPECT_NEAR(attention({"--attention-dtype", "fp8"}), 2 * block + 1.5 * block + sums,
              1e-3 * block);
}

TEST_F(Commands, PlanRefusesWhatWouldDoNothing) {
  const auto refused = [](const Words& words, const std::string& why) {
    const Outcome outcome = run(words);
    EXPECT_NE(outcome.status, 0);
    EXPECT_NE(outcome.err.find(why), std::string::npos) << outcome.err;
  };
  refused({"plan", "--all-strategies"}, "--all-strategies needs rates (");
  refused({"plan", "--network-latency", "3"}, "--network-latency");
  refused({"plan", "--threads", "2"}, "--threads");
  refused({"plan", "--attention-dtype", "fp8"}, "--attention-dtype says nothing of --for train (");
}

TEST_F(Commands, PlanMeasuresThisMachine) {
  const Outcome outcome =
      expect_success({"plan", "--measure", "--local-ranks", "2", "--model",
                      "dim=64,layers=2,heads=4,ffn=128,vocab=259", "--context-lengths", "512",
                      "--dtype", "f32", "--device", "cpu", "--json", "-"});
  const Json result = Json::parse(outcome.out, "standard output");
  EXPECT_GT(result.at("rates").at("matmul_flops").as_real(), 0);
  EXPECT_EQ(result.at("results").at(size_t{0}).at("ranks").as_integer(), 2);
}

TEST_F(Commands, EvaluateTakesTheMemoryThatItForesaw) {
  const std::string trained = trained_run();
  const auto evaluate = [&](const Words& more) {
    Words words{"evaluate", "--checkpoint", trained, "--tokens",   tokens(1), "--context-lengths",
                "1K",       "--windows",    "1",     "--progress", "none",    "--json",
                "-"};
    words.insert(words.end(), more.begin(), more.end());
    return Json::parse(expect_success(words).out, "standard output");
  };
  const Json whole = evaluate({});
  const Json pieces = evaluate({"--piece-tokens", "64"});
  const auto loss = [](const Json& r) {
    return r.at("lengths").at(size_t{0}).at("loss").as_real();
  };
  EXPECT_NEAR(loss(pieces), loss(whole), 1e-5);
  for (const Json* result : {&whole, &pieces}) {
    const Json& memory = result->at("memory");
    const double peak = memory.at("peak_bytes").as_real();
    EXPECT_NEAR(memory.at("account_bytes").as_real(), peak, 0.03 * peak);
  }
  EXPECT_LT(pieces.at("memory").at("peak_bytes").as_real(),
            whole.at("memory").at("peak_bytes").as_real());
  EXPECT_EQ(pieces.at("piece_tokens").as_integer(), 64);
}

}  // namespace
}  // namespace ringbolt::testing
