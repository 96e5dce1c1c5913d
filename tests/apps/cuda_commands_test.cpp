// The commands with --device cuda: on a GPU, or on the emulated device where that is what the build
// has. What they compute is held against the same command on the CPU, or the published result.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "io/json.h"
#include "tests/apps/commands_fixture.h"
#include "tests/support/backend_cases.h"
#include "tests/support/data.h"

namespace ringbolt::testing {
namespace {

using testing_support::cuda_case;

class CudaCommands : public Commands, public ::testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override {
    const std::string why = testing_support::why_not({cuda_case(), DType::f32});
    if (!why.empty()) GTEST_SKIP() << why;
  }
  static Words on(const std::string& device, Words words) {
    words.insert(words.end(), {"--device", device});
    return words;
  }
  static Json json_of(Words words) {
    words.insert(words.end(), {"--json", "-"});
    return Json::parse(expect_success(words).out, "standard output");
  }
  /// The metrics of a run's steps, without what the clock says.
  std::vector<Json> steps_of(const std::string& run) {
    std::vector<Json> steps;
    const std::string text = read_file(folder_ / (run + "/metrics.jsonl"));
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = text.find('\n', begin);
      const Json line = Json::parse(text.substr(begin, end - begin), run);
      if (line.find("loss") != nullptr) steps.push_back(line);
      begin = end + 1;
    }
    return steps;
  }
};

TEST_P(CudaCommands, InfoSaysWhetherTheDeviceIsAGpu) {
  const std::string device = json_of(on("cuda", {"info"})).at("system").at("device").as_text();
  EXPECT_EQ(device.find("emulated, no GPU") != std::string::npos, cuda_case() == "emulated")
      << device;
}

TEST_P(CudaCommands, GreedyTextOfAPublishedModelIsTheReferenceByteForByte) {
  RINGBOLT_NEEDS_DATA();
  const std::string data = testing_support::data_path("").string();
  const Outcome outcome =
      expect_success(on("cuda", {"generate", "--checkpoint", data + "/checkpoints/stories260K.bin",
                                 "--tokenizer", data + "/tokenizers/tok512/tok512.model",
                                 "--temperature", "0", "--max-tokens", "200"}));
  EXPECT_EQ(outcome.out, read_file(data + "/reference/stories260K_greedy200_expected.txt"));
}

TEST_P(CudaCommands, TrainingHasTheLossesOfTheCpu) {
  for (const std::string dtype : {"f32", "bf16"}) {
    for (const std::string device : {"cpu", "cuda"})
      expect_success(on(device, training(device + dtype, 5, {"--dtype", dtype})));
    const std::vector<Json> cpu = steps_of("cpu" + dtype);
    const std::vector<Json> cuda = steps_of("cuda" + dtype);
    ASSERT_EQ(cpu.size(), 5U);
    ASSERT_EQ(cuda.size(), 5U);
    // Of a mean over 192 losses near 5.5: f32 sums in another order, then AdamW's first steps,
    // which give a gradient's sign a full step where it is all rounding. In bf16 a logit has 8
    // digits.
    const double bound = dtype == "f32" ? 1e-5 : 4e-3;
    double worst = 0;
    for (size_t i = 0; i < cpu.size(); ++i)
      worst = std::max(worst, std::abs(cpu[i].at("loss").as_real() - cuda[i].at("loss").as_real()));
    EXPECT_LT(worst, bound) << dtype;
    RecordProperty("worst_" + dtype, std::to_string(worst));
  }
}

TEST_P(CudaCommands, ResumedTrainingHasTheBitsOfAnUnbrokenOne) {
  expect_success(on("cuda", training("whole", 4)));
  expect_success(on("cuda", training("broken", 4, {"--stop-after", "2"})));
  expect_success({"train", "--output", folder_ / "broken", "--resume"});
  const std::vector<Json> whole = steps_of("whole");
  const std::vector<Json> broken = steps_of("broken");
  ASSERT_EQ(whole.size(), 4U);
  ASSERT_EQ(broken.size(), 4U);
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const char* what : {"loss", "gradient_norm"})
      EXPECT_EQ(whole[i].at(what).as_real(), broken[i].at(what).as_real()) << what << " " << i + 1;
  }
}

TEST_P(CudaCommands, EvaluationWithEachAttentionIsThatOfTheCpu) {
  const std::string run = trained_run();
  for (const std::string dtype : {"f32", "bf16", "fp8-output"}) {
    std::vector<double> losses;
    for (const std::string device : {"cpu", "cuda"}) {
      const Json result = json_of(
          on(device, {"evaluate", "--checkpoint", run, "--tokens", tokens(), "--context-lengths",
                      "48,130", "--windows", "2", "--attention-dtype", dtype}));
      for (const Json& length : result.at("lengths").items())
        losses.push_back(length.at("loss").as_real());
    }
    ASSERT_EQ(losses.size(), 4U);
    // The CPU rounds where the device does; what is left are sums in another order, which a
    // rounding to 4 (E4M3) or 8 (bf16) digits may turn into one of its steps, here and there.
    const double bound = dtype == "f32" ? 1e-5 : dtype == "bf16" ? 1e-3 : 5e-3;
    for (size_t i : {0U, 1U}) EXPECT_NEAR(losses[i], losses[i + 2], bound) << dtype;
  }
}

TEST_P(CudaCommands, NcclIsRefusedWhereThereIsNone) {
  if (cuda_case() != "emulated") GTEST_SKIP() << "a build for GPUs may have NCCL";
  const Outcome outcome = run(on("cuda", training("nccl", 1, {"--communicator", "nccl"})));
  expect_error(outcome, 4, "NCCL");
}

TEST_P(CudaCommands, BenchTimesEachWorkload) {
  const std::string device = cuda_case() == "emulated" ? "emulated, no GPU" : "compute capability";
  for (const std::string what : {"matmul", "attention", "rowwise", "step"}) {
    Words words{"bench", "--what", what, "--dtype", "bf16", "--seconds", "0.001"};
    const Words shape =
        what == "attention"
            ? Words{"--attention-lengths", "64", "--head-dims", "16", "--heads", "2",
                    "--kv-heads",          "1"}
            : Words{"--model", "dim=32,layers=1,heads=2,ffn=64,vocab=64", "--context-length", "64"};
    words.insert(words.end(), shape.begin(), shape.end());
    const Json result = json_of(on("cuda", words));
    EXPECT_GT(result.at("results").items().size(), 0U) << what;
    EXPECT_NE(result.at("device").as_text().find(device), std::string::npos) << what;
  }
}

TEST_P(CudaCommands, BenchTimesRings) {
  for (const std::string ranks : {"2", "4"}) {
    const Json result =
        json_of(on("cuda", {"bench", "--what", "ring", "--local-ranks", ranks, "--one-rank",
                            "--attention-lengths", "128", "--head-dims", "16", "--heads", "4",
                            "--kv-heads", "2", "--dtype", "bf16", "--seconds", "0.001"}));
    EXPECT_GE(result.at("results").items().size(), 3U);
    for (const Json& row : result.at("results").items()) {
      EXPECT_EQ(std::to_string(row.at("ranks").as_integer()), ranks);
      EXPECT_GT(row.at("speed_up_over_one_rank").as_real(), 0);
    }
  }
}

// CTest's labels go by the device in a test's name.
INSTANTIATE_TEST_SUITE_P(Devices, CudaCommands, ::testing::Values(cuda_case() + "_by_command"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace ringbolt::testing
