// What the attention kernels promise beyond the backend's contract: their exponential, and the
// memory that they hold.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/cpu/attention.h"
#include "core/cpu/attention_kernels.h"
#include "core/cpu/isa.h"
#include "tests/support/random_values.h"

namespace ringbolt::cpu {
namespace {

class AttentionKernelsOf : public testing::TestWithParam<Isa> {
 protected:
  std::vector<float> exp2(const std::vector<float>& x) const {
    std::vector<float> y(x.size(), -1.0F);
    attention_kernels(GetParam()).exp2(x.data(), static_cast<int64_t>(x.size()), y.data());
    return y;
  }
};

TEST_P(AttentionKernelsOf, ExponentialIsWithinItsBoundOverTheWholeRange) {
  // Dense around 0, where weights count most; everywhere to the last normal power; and the halves,
  // where the reduced argument jumps.
  std::vector<float> x;
  for (int i = -(1 << 18); i <= 1 << 18; ++i) x.push_back(static_cast<float>(i) * 0x1p-17F);
  for (const double value : testing_support::random_values(1, 1 << 19, -126, 127)) {
    x.push_back(static_cast<float>(value));
  }
  for (float half = -125.5F; half < 127; half += 1) {
    x.push_back(half);
    x.push_back(std::nextafter(half, -200.0F));
    x.push_back(std::nextafter(half, 200.0F));
  }
  const std::vector<float> y = exp2(x);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp2(static_cast<double>(x[i]));
    worst = std::max(worst, std::abs(static_cast<double>(y[i]) - exact) / exact);
  }
  EXPECT_LE(worst, 0x1p-22) << "over " << x.size() << " values";
  EXPECT_GT(worst, 0) << "nothing was compared";
  RecordProperty("worst_relative_error", std::to_string(worst));
}

TEST_P(AttentionKernelsOf, ExponentialIsExactAtWholeNumbersAndVanishesBelowTheRange) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> whole;
  for (int i = -126; i <= 127; ++i) whole.push_back(static_cast<float>(i));
  const std::vector<float> powers = exp2(whole);
  for (size_t i = 0; i < whole.size(); ++i)
    EXPECT_EQ(powers[i], std::ldexp(1.0F, static_cast<int>(whole[i])));
  for (const float tiny : exp2({-126.2F, -126.7F, -127, -140, -149})) {
    EXPECT_GE(tiny, 0);
    EXPECT_LE(tiny, 0x1p-126F);
  }
  for (const float zero :
       exp2({-150.5F, -1000, -1e30F, std::numeric_limits<float>::lowest(), -kInfinity})) {
    EXPECT_EQ(zero, 0);
  }
  EXPECT_TRUE(std::isnan(exp2({std::numeric_limits<float>::quiet_NaN()})[0]));
}

TEST_P(AttentionKernelsOf, WorkspaceIsAFewMegabytesAThread) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int64_t head_dim : {8, 64, 128, 256}) {
      const int64_t one = attention_workspace_bytes(head_dim, dtype, 1, GetParam());
      EXPECT_GT(one, 0);
      EXPECT_LE(one, 4 << 20) << "head dimension " << head_dim;
      EXPECT_EQ(attention_workspace_bytes(head_dim, dtype, 3, GetParam()), 3 * one);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, AttentionKernelsOf, testing::ValuesIn(available_isas()),
                         [](const auto& instance) { return name_of(instance.param); });

}  // namespace
}  // namespace ringbolt::cpu
