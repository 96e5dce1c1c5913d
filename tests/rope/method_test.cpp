// Methods from configurations: composition, lengths, queries' scale, and the property that every
// rotary method promises.
#include "rope/method.h"

#include <cmath>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/random.h"
#include "rope/frequencies.h"
#include "rope/log_scale.h"
#include "rope/p_rope.h"
#include "rope/resonance.h"
#include "rope/table.h"
#include "rope/yarn.h"
#include "tests/support/data.h"

namespace ringbolt {
namespace {

using testing_support::data_path;

/// LLaMA's head: 128 dimensions, base 1e4.
ModelConfig head(RopeScaling scaling, int64_t length = 2048) {
  ModelConfig config = model_shape("dim=256,layers=1,heads=2");
  config.max_position_embeddings = length;
  config.rope_scaling = std::move(scaling);
  validate(config);
  return config;
}

/// Every method with numbers that make it differ from the default.
std::vector<RopeScaling> all_methods() {
  std::vector<RopeScaling> all;
  for (const std::string& name : rope_method_names()) {
    RopeScaling s;
    s.method = rope_method(name);
    if (s.method != RopeMethod::none) s.factor = 4;
    s.original_length = 2048;
    if (s.method == RopeMethod::longrope) {
      s.short_factor.assign(64, 1.0);
      s.long_factor.assign(64, 3.0);
    }
    if (is_two_part(s.method)) {
      s.window = 512;
      s.group = 4;
    }
    all.push_back(s);
  }
  RopeScaling mixed = all[8];  // and some of what goes on top
  mixed.resonance = true;
  mixed.rotated_share = 0.75;
  mixed.partial_rotary_factor = 0.5;
  all.push_back(mixed);
  return all;
}

TEST(RotaryMethod, MatchesHuggingFacesExpectedFrequencies) {
  RINGBOLT_NEEDS_DATA();
  std::ifstream file(data_path("reference/hf_rope_inv_freq_expected.tsv"));
  const std::vector<std::pair<RopeScaling, int64_t>> columns{
      {{}, 2048},
      {{.method = RopeMethod::dynamic_ntk, .factor = 10}, 16384},
      {{.method = RopeMethod::yarn, .factor = 10}, 2048},
      {{.method = RopeMethod::llama3, .factor = 10, .original_length = 2048}, 2048}};
  std::vector<std::vector<double>> schedules;
  for (const auto& [scaling, length] : columns)
    schedules.push_back(rotary_schedule(head(scaling), length).frequencies);
  int compared = 0;
  std::string line;
  std::getline(file, line);
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::istringstream cells(line);
    size_t i = 0;
    cells >> i;
    for (const auto& schedule : schedules) {
      double expected = 0;
      ASSERT_TRUE(cells >> expected);
      EXPECT_NEAR(schedule[i], expected, 1.01e-4 * expected)
          << "pair " << i;  // five digits are printed
      ++compared;
    }
  }
  EXPECT_EQ(compared, 4 * 64);
}

TEST(RotaryMethod, DiffersFromTheDefaultBeyondTheOriginalLength) {
  const auto plain = rotary_schedule(head({}), 8192).frequencies;
  int differ = 0;
  for (const RopeScaling& s : all_methods()) {
    if (s.method == RopeMethod::none || is_two_part(s.method)) continue;
    EXPECT_NE(rotary_schedule(head(s), 8192).frequencies, plain) << name_of(s.method);
    ++differ;
  }
  EXPECT_EQ(differ, 14);
}

TEST(RotaryMethod, SaysWhetherItsAnglesDependOnTheLength) {
  for (const RopeScaling& s : all_methods()) {
    const auto at = [&](int64_t length) { return rotary_schedule(head(s), length).frequencies; };
    EXPECT_EQ(at(2048) != at(8192), angles_depend_on_length(s)) << name_of(s.method);
  }
}

TEST(RotaryMethod, DynamicOnesAreAsTrainedUpToTheOriginalLength) {
  const auto plain = rotary_schedule(head({}), 2048).frequencies;
  for (const RopeMethod method :
       {RopeMethod::dynamic_linear, RopeMethod::dynamic_ntk, RopeMethod::dynamic_yarn}) {
    RopeScaling s{.method = method};
    const auto f = rotary_schedule(head(s), 100).frequencies;
    for (size_t i = 0; i < f.size(); ++i) EXPECT_DOUBLE_EQ(f[i], plain[i]) << name_of(method);
    EXPECT_EQ(rotary_schedule(head(s), 100).attention_factor, 1) << name_of(method);
  }
}

TEST(RotaryMethod, DynamicYarnIsYarnWithTheFactorThatTheLengthNeeds) {
  const RotarySchedule dynamic = rotary_schedule(head({.method = RopeMethod::dynamic_yarn}), 8192);
  const RotarySchedule fixed =
      rotary_schedule(head({.method = RopeMethod::yarn, .factor = 4}), 8192);
  EXPECT_EQ(dynamic.frequencies, fixed.frequencies);
  EXPECT_EQ(dynamic.attention_factor, fixed.attention_factor);
  EXPECT_NEAR(fixed.attention_factor, 1.1386294, 5e-8);
}

TEST(RotaryMethod, LongRopeTakesItsLongFactorsFromTheFirstTokenBeyondTheOriginalLength) {
  // By the length of the sequence, as newer releases do; older ones went by the model's configured
  // length.
  RopeScaling s{.method = RopeMethod::longrope, .factor = 4, .original_length = 2048};
  s.short_factor.assign(64, 1.0);
  s.long_factor.assign(64, 3.0);
  const RotaryMethod method(head(s, 8192));
  const auto plain = default_frequencies(128, 1e4);
  EXPECT_EQ(method.at(2048).frequencies, plain);
  const auto beyond = method.at(2049).frequencies;
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_DOUBLE_EQ(beyond[i], plain[i] / 3) << i;
  EXPECT_EQ(method.at(10).frequencies, plain);
  // The attention factor is of the extension, at every length.
  EXPECT_EQ(method.at(10).attention_factor, method.at(8192).attention_factor);
  EXPECT_GT(method.at(10).attention_factor, 1);
}

TEST(RotaryMethod, ComposesInTheOrderOfThePapers) {
  RopeScaling s{.method = RopeMethod::yarn, .factor = 4};
  s.partial_rotary_factor = 0.5;
  s.resonance = true;
  s.rotated_share = 0.75;
  auto expected =
      yarn_frequencies(64, 1e4, 2048, 4, s);  // partial: a full range over half of the head
  make_resonant(expected);                    // after the scaling
  keep_rotated_share(expected, 0.75, RotatedPairs::highest);
  EXPECT_EQ(rotary_schedule(head(s), 2048).frequencies, expected);
  EXPECT_EQ(expected.size(), 32U);
  EXPECT_EQ(expected[24], 0);
}

TEST(RotaryMethod, AnAttentionFactorThatIsGivenCounts) {
  for (RopeScaling s : all_methods()) {
    s.attention_factor = 1.5;
    EXPECT_EQ(rotary_schedule(head(s), 2048).attention_factor, 1.5) << name_of(s.method);
  }
}

TEST(RotaryMethod, KeepsItsScheduleFromCallToCall) {
  const RotaryMethod fixed(head({.method = RopeMethod::yarn, .factor = 4}));
  const double* first = fixed.at(10).frequencies.data();
  EXPECT_EQ(fixed.at(100000).frequencies.data(), first);
  const RotaryMethod dynamic(head({.method = RopeMethod::dynamic_ntk, .factor = 2}));
  const double* within = dynamic.at(10).frequencies.data();
  EXPECT_EQ(dynamic.at(2048).frequencies.data(), within);
  const std::vector<double> short_ones = dynamic.at(2048).frequencies;
  EXPECT_NE(dynamic.at(4096).frequencies, short_ones);
  EXPECT_EQ(dynamic.at(2048).frequencies, short_ones);
}

TEST(RotaryMethod, MakesItsScheduleAndTableOnceForManySteps) {
  const auto backend = make_cpu_backend();
  for (const RopeScaling& s : all_methods()) {
    if (is_two_part(s.method)) continue;
    const RotaryMethod method(head(s));
    int tables = 0;
    LastRotaryTable table(
        [&, make = rotary_tables(*backend, method, 8192)](std::span<const int64_t> positions) {
          ++tables;
          return make(positions);
        });
    for (int step = 0; step < 10; ++step) table.at(sequence_positions(32, 2));
    EXPECT_EQ(tables, 1) << name_of(s.method);
    EXPECT_EQ(method.schedules_made(), 1) << name_of(s.method);
    table.at(sequence_positions(33));
    EXPECT_EQ(tables, 2) << name_of(s.method);
    EXPECT_EQ(method.schedules_made(), 1) << name_of(s.method);  // the length is the same
  }
}

TEST(LogScale, GrowsWithThePosition) {
  EXPECT_EQ(log_query_scale(LogScale::none, 99, 10), 1);
  EXPECT_DOUBLE_EQ(log_query_scale(LogScale::unclipped, 99, 10), 2);
  EXPECT_DOUBLE_EQ(log_query_scale(LogScale::unclipped, 0, 10), 0);
  EXPECT_DOUBLE_EQ(log_query_scale(LogScale::clipped, 99, 10), 2);
  EXPECT_DOUBLE_EQ(log_query_scale(LogScale::clipped, 0, 10), 1);
}

TEST(RotaryMethod, FillsTheQueryScaleAndTheAttentionFactorIntoTheTable) {
  RopeScaling s{.method = RopeMethod::yarn, .factor = 4};
  s.log_scale = LogScale::unclipped;
  const auto backend = make_cpu_backend();
  const std::vector<int64_t> positions{0, 2047, 4194303};
  const RotaryTable table = make_rotary_table(*backend, RotaryMethod(head(s)), positions);
  ASSERT_TRUE(table.query_scale);
  EXPECT_EQ(download_f32(*backend, *table.query_scale), (std::vector<float>{0, 1, 2}));
  EXPECT_NEAR(download_f32(*backend, table.cos)[0], 1.1386294, 1e-6);
  EXPECT_FALSE(make_rotary_table(*backend, RotaryMethod(head({})), positions).query_scale);
}

/// Of unit vectors q at m and k at n: their product after rotation by the table's rows.
class RotatedProduct {
 public:
  explicit RotatedProduct(size_t pairs) : q_(unit(2 * pairs, 1)), k_(unit(2 * pairs, 2)) {}
  double operator()(const std::vector<float>& cos, const std::vector<float>& sin, size_t query,
                    size_t key) const {
    const size_t pairs = q_.size() / 2;
    const auto turned = [&](const std::vector<double>& x, size_t row, size_t i) {
      const double c = static_cast<double>(cos[row * pairs + i]);
      const double s = static_cast<double>(sin[row * pairs + i]);
      return std::pair(x[2 * i] * c - x[2 * i + 1] * s, x[2 * i] * s + x[2 * i + 1] * c);
    };
    double sum = 0;
    for (size_t i = 0; i < pairs; ++i) {
      const auto [q0, q1] = turned(q_, query, i);
      const auto [k0, k1] = turned(k_, key, i);
      sum += q0 * k0 + q1 * k1;
    }
    return sum;
  }

 private:
  static std::vector<double> unit(size_t size, uint64_t seed) {
    const Philox random(seed);
    std::vector<double> x(size);
    double squares = 0;
    for (size_t i = 0; i < size; ++i) {
      x[i] = random.normal(i);
      squares += x[i] * x[i];
    }
    for (double& value : x) value /= std::sqrt(squares);
    return x;
  }
  std::vector<double> q_;
  std::vector<double> k_;
};

TEST(RotaryMethod, ProductsDependOnTheDistanceOnly) {
  const auto backend = make_cpu_backend();
  constexpr int64_t kFar = int64_t{1} << 20;
  int compared = 0;
  for (const RopeScaling& s : all_methods()) {
    if (is_two_part(s.method)) continue;  // floors of positions: the promise is not theirs
    const RotaryMethod method(head(s));
    for (const int64_t distance : {int64_t{0}, int64_t{1}, int64_t{777}, int64_t{65536}, kFar}) {
      // The same distance at the start, in the middle and at the end.
      const std::vector<int64_t> positions{0,        distance,           12345, 12345 + distance,
                                           kFar - 1, kFar - 1 + distance};
      const RotaryTable table = make_rotary_table(*backend, method, positions, 2 * kFar);
      const auto cos = download_f32(*backend, table.cos);
      const auto sin = download_f32(*backend, table.sin);
      const RotatedProduct product(cos.size() / positions.size());
      const double expected = product(cos, sin, 1, 0);
      EXPECT_NEAR(product(cos, sin, 3, 2), expected, 1e-6)
          << name_of(s.method) << ", distance " << distance;
      EXPECT_NEAR(product(cos, sin, 5, 4), expected, 1e-6)
          << name_of(s.method) << ", distance " << distance;
      compared += 2;
    }
  }
  EXPECT_EQ(compared, 15 * 5 * 2);
}

TEST(RopeScaling, RefusesWhatCannotBe) {
  const auto refused = [](const std::function<void(RopeScaling&)>& change) {
    RopeScaling s{.method = RopeMethod::yarn, .factor = 4};
    change(s);
    EXPECT_THROW(validate(s, 128), UsageError);
  };
  EXPECT_NO_THROW(validate(RopeScaling{.method = RopeMethod::yarn, .factor = 4}, 128));
  refused([](RopeScaling& s) { s.factor = 0.9; });
  refused([](RopeScaling& s) { s.beta_slow = 40; });
  refused([](RopeScaling& s) { s.high_freq_factor = 1; });
  refused([](RopeScaling& s) { s.original_length = -1; });
  refused([](RopeScaling& s) { s.attention_factor = 0; });
  refused([](RopeScaling& s) { s.partial_rotary_factor = 0.01; });
  refused([](RopeScaling& s) { s.rotated_share = 1.1; });
  refused([](RopeScaling& s) { s.interpolated_dimensions = 130; });
  refused([](RopeScaling& s) { s.method = RopeMethod::longrope; });
  refused([](RopeScaling& s) { s.method = RopeMethod::self_extend; });
  refused([](RopeScaling& s) {
    s.method = RopeMethod::self_extend;
    s.window = 4;
  });
}

}  // namespace
}  // namespace ringbolt
