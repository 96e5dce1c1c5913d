#include "core/bench/random_data.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace ringbolt {
namespace {

std::pair<double, double> mean_and_deviation(const std::vector<float>& values) {
  double sum = 0, squares = 0;
  for (const float v : values) {
    sum += static_cast<double>(v);
    squares += static_cast<double>(v) * static_cast<double>(v);
  }
  const auto n = static_cast<double>(values.size());
  return {sum / n, std::sqrt(squares / n - sum / n * (sum / n))};
}

TEST(RandomTensor, IsUniformAndGoesOnBeyondItsBlock) {
  const auto backend = make_cpu_backend(1);
  constexpr int64_t kRows = 300,
                    kColumns = 4096;  // more than a block of 2^20 + 64, and not a multiple
  const Tensor x = random_tensor(*backend, DType::bf16, {kRows, kColumns}, 7);
  const std::vector<float> values = download_f32(*backend, x);
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  EXPECT_GE(*least, -1.0F);
  EXPECT_LE(*most, 1.0F);
  const auto [mean, deviation] = mean_and_deviation(values);
  EXPECT_NEAR(mean, 0, 5 * 0.577 / 1024);  // of 2^20 independent ones, five deviations
  EXPECT_NEAR(deviation, 1 / std::sqrt(3.0), 2e-3);
  const std::span all(values);
  EXPECT_TRUE(std::equal(all.begin(), all.begin() + kColumns, all.begin() + (1 << 20) + 64));
  EXPECT_FALSE(std::equal(all.begin(), all.begin() + kColumns, all.begin() + (1 << 20)))
      << "no row repeats";
}

TEST(RandomTensor, DependsOnItsSeed) {
  const auto backend = make_cpu_backend(1);
  const auto values = [&](uint64_t seed) {
    return download_f32(*backend, random_tensor(*backend, DType::f32, {5, 7}, seed));
  };
  EXPECT_EQ(values(1), values(1));
  EXPECT_NE(values(1), values(2));
}

TEST(RandomWeights, HaveTheInitialDistributionsInStoresOfEitherPurpose) {
  const auto backend = make_cpu_backend(1);
  const ModelConfig config =
      model_shape("dim=64,layers=8,heads=4,kv-heads=2,ffn=96,vocab=300,qkv-bias");
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const StorePurpose purpose : {StorePurpose::inference, StorePurpose::training}) {
      ResidentParameters store(*backend, config, dtype, purpose);
      fill_random_weights(*backend, store);
      int compared = 0;
      store.for_each([&](const ParameterPiece& piece) {
        const auto& name = piece.spec.name;
        Tensor wide = backend->allocate(DType::f32, {piece.count});
        backend->convert(piece.weight, wide);
        const auto [mean, deviation] = mean_and_deviation(download_f32(*backend, wide));
        const bool bias = name.find("bias") != std::string::npos;
        const bool norm = name.find("norm") != std::string::npos;
        const bool residual =
            name.find("o_proj") != std::string::npos || name.find("down_proj") != std::string::npos;
        const double expected = bias || norm ? 0
                                : residual   ? 0.02 / 4
                                             : 0.02;  // sqrt(2 x 8 layers)
        EXPECT_NEAR(mean, norm ? 1 : 0, 0.1 * expected) << name;
        EXPECT_NEAR(deviation, expected, 0.05 * expected)
            << name;  // of 2048 values at least: 3 deviations
        if (!piece.master.empty()) {
          Tensor rounded = backend->allocate(piece.weight.dtype(), {piece.count});
          backend->convert(piece.master, rounded);
          backend->convert(rounded, wide);
          Tensor weight = backend->allocate(DType::f32, {piece.count});
          backend->convert(piece.weight, weight);
          EXPECT_EQ(download_f32(*backend, wide), download_f32(*backend, weight)) << name;
        }
        ++compared;
      });
      EXPECT_EQ(compared, 3 + 8 * 12);
    }
  }
}

TEST(RandomTokens, AreOfTheVocabularyAndTheSameWhoeverReadsThem) {
  const TokenReader read = random_tokens(37);
  std::vector<int32_t> all(5000), part(100);
  read(0, all);
  read(700, part);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + 700));
  const auto [least, most] = std::minmax_element(all.begin(), all.end());
  EXPECT_EQ(*least, 0);
  EXPECT_EQ(*most, 36);
}

}  // namespace
}  // namespace ringbolt
