// Training CLEX's network by the commands: a run that stopped, ranks, evaluation by what was
// learnt, and what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/json.h"
#include "tests/apps/commands_fixture.h"

namespace ringbolt::testing {
namespace {

constexpr const char* kDown = "model.clex_layer.proj_func.ode_down_proj";

class ClexCommands : public Commands {
 protected:
  Words clex(const Words& more = {}) const {
    Words words{"--rope-method", "clex", "--rope-factor", "4"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::vector<float> tensor(const std::string& run, const std::string& name) const {
    const auto reader = CheckpointReader::open(find_checkpoints(folder_ / run).back().folder);
    std::vector<float> values(static_cast<size_t>(reader.shape(name).elements()));
    reader.read(name, 0, values);
    return values;
  }
  /// Bit-equal tensors of the newest checkpoints; how many elements there were.
  size_t expect_equal_checkpoints(const std::string& a, const std::string& b) const {
    size_t compared = 0;
    const auto reader = CheckpointReader::open(find_checkpoints(folder_ / a).back().folder);
    for (const std::string& name : reader.names()) {
      const std::vector<float> x = tensor(a, name);
      const std::vector<float> y = tensor(b, name);
      EXPECT_EQ(x.size(), y.size()) << name;
      if (x.size() != y.size()) continue;
      EXPECT_EQ(std::memcmp(x.data(), y.data(), x.size() * sizeof(float)), 0) << name;
      compared += x.size();
    }
    return compared;
  }
  double loss(const std::string& run, const std::string& length, const Words& more = {}) {
    Words words{
        "evaluate", "--checkpoint", folder_ / run, "--tokens", tokens(1), "--context-lengths",
        length,     "--windows",    "2",           "--json",   "-"};
    words.insert(words.end(), more.begin(), more.end());
    const Json result = Json::parse(expect_success(words).out, "evaluate");
    return result.at("lengths").at(size_t{0}).at("loss").as_real();
  }
};

float largest(const std::vector<float>& values) {
  float most = 0;
  for (const float x : values) most = std::max(most, std::abs(x));
  return most;
}

TEST_F(ClexCommands, ATrainingThatStoppedGoesOnToTheSameBits) {
  for (const char* dtype : {"f32", "bf16"}) {
    const std::string whole = std::string("whole-") + dtype;
    const std::string part = std::string("part-") + dtype;
    const Words words =
        clex({"--dtype", dtype, "--gradient-accumulation", "2", "--local-ranks", "2"});
    expect_success(training(whole, 6, words));
    Words stopped = words;
    stopped.insert(stopped.end(), {"--stop-after", "3"});
    expect_success(training(part, 6, stopped));
    expect_success({"train", "--output", folder_ / part, "--resume"});
    EXPECT_GT(expect_equal_checkpoints(whole, part), 50000U);
    for (const char* kind : {"weights/", "moments/first/", "moments/second/"})
      EXPECT_GT(largest(tensor(whole, std::string(kind) + kDown)), 0) << kind << dtype;
  }
}

TEST_F(ClexCommands, FineTuningBeginsWithANetworkThatChangesNothingAndEvaluatesWhatItLearnt) {
  // Long enough that attention depends on positions.
  expect_success(training("trained", 80, {"--learning-rate", "1e-2"}));
  const Words ntk{"--rope-method", "dynamic", "--rope-factor", "2"};
  // At 2 and 4 times the length, by the solver's error of about 1e-9 in a frequency.
  for (const char* length : {"96", "192"}) {
    EXPECT_NEAR(loss("trained", length, clex()), loss("trained", length, ntk), 1e-5);
  }
  expect_success({"train", "--checkpoint", folder_ / "trained", "--tokens", tokens(),
                  "--rope-method", "clex", "--rope-factor", "4", "--steps", "30", "--learning-rate",
                  "1e-2", "--output", folder_ / "tuned"});
  EXPECT_GT(largest(tensor("tuned", std::string("weights/") + kDown)), 1e-3F);
  EXPECT_GT(std::abs(loss("tuned", "192") - loss("tuned", "192", ntk)), 1e-3);
  EXPECT_NEAR(loss("tuned", "48"), loss("tuned", "48", ntk), 1e-5);  // at scale 1 it is plain
}

TEST_F(ClexCommands, ValidationDuringTrainingUsesWhatTheNetworkHasLearntSoFar) {
  const Outcome outcome = expect_success(
      training("run", 80,
               clex({"--position-map", "pose", "--position-reach", "192", "--learning-rate", "1e-2",
                     "--rope-original-length", "24", "--validation-tokens", tokens(1),
                     "--evaluation-windows", "2", "--json", "-"})));
  const Json result = Json::parse(outcome.out, "train");
  // Validation is over windows of 48 at the angles of the reach: scale 4.
  EXPECT_NEAR(result.at("validation_loss").as_real(),
              loss("run", "48", {"--rope-original-length", "12"}), 1e-6);
  EXPECT_GT(std::abs(result.at("validation_loss").as_real() - loss("run", "48")), 1e-4);
}

TEST_F(ClexCommands, RefusesWhatHasNoGradientAndAnotherNetworksShape) {
  expect_error(run(training("resonant", 2, clex({"--rope-resonance"}))), 2,
               "--rope-resonance does not go with training clex");
  expect_error(run(training("half", 2, {"--rope-method", "clex", "--rope-factor", "2.5"})), 2,
               "its scales are whole numbers");
  expect_success(training("run", 2, clex()));
  expect_error(
      run({"evaluate", "--checkpoint", folder_ / "run", "--tokens", tokens(1), "--rope-scaling",
           R"({"rope_type": "clex", "max_factor": 4, "param_factor": 3})"}),
      2, "the rotary options do not fit");
}

}  // namespace
}  // namespace ringbolt::testing
