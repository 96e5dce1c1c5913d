#include "core/bench/layer_forward.h"

#include <gtest/gtest.h>

namespace ringbolt {
namespace {

TEST(LayerForwardFlops, CountEveryWeightAndEveryVisiblePair) {
  // Grouped queries, so that no two widths are the same: E 48, H D = 6 x 12, K D = 2 x 12, F 80.
  const ModelConfig config =
      model_shape("dim=48,layers=1,heads=6,kv-heads=2,head-dim=12,ffn=80,vocab=31");
  constexpr int64_t kTokens = 7;
  const ForwardFlops flops = layer_forward_flops(config, kTokens);
  EXPECT_EQ(flops.matrices, 2.0 * kTokens * (48 * 72 + 2 * 48 * 24 + 72 * 48 + 3 * 48 * 80));
  EXPECT_EQ(flops.attention, 4.0 * 12 * 6 * (kTokens * (kTokens + 1) / 2));
  // The layer's parameters beside its two norms.
  ModelConfig none = config;
  none.num_hidden_layers = 0;
  EXPECT_EQ(flops.matrices,
            2.0 * kTokens *
                static_cast<double>(config.parameter_count() - none.parameter_count() - 2 * 48));
}

TEST(ModelForwardFlops, AreThoseOfItsLayersAndOfEveryTokensLogits) {
  const ModelConfig config =
      model_shape("dim=48,layers=3,heads=6,kv-heads=2,head-dim=12,ffn=80,vocab=31");
  const ForwardFlops layer = layer_forward_flops(config, 7);
  const ForwardFlops model = model_forward_flops(config, 7);
  EXPECT_EQ(model.attention, 3 * layer.attention);
  EXPECT_EQ(model.matrices, 3 * layer.matrices + 2.0 * 7 * 31 * 48);
}

// The figure that a million tokens of a 7B model are held to.
TEST(ModelForwardFlops, OfSevenBillionParametersAndAMillionTokensAreMostlyAttention) {
  const ForwardFlops flops = model_forward_flops(model_shape("llama2-7b"), 1 << 20);
  EXPECT_NEAR(flops.attention, 2.88e17, 0.01e17);
  EXPECT_NEAR(flops.matrices, 1.386e16, 0.01e16);
}

TEST(ScaledLayerForward, GrowsLinearlyInItsMatricesAndQuadraticallyInAttention) {
  const auto backend = make_cpu_backend(1);
  const ModelConfig config = model_shape("dim=64,layers=1,heads=4,kv-heads=2,ffn=96,vocab=31");
  const LayerForward f = scaled_layer_forward(*backend, config, 1 << 20, DType::f32, 0.001, 32, 64);
  EXPECT_EQ(f.flops.attention, layer_forward_flops(config, 1 << 20).attention);
  EXPECT_GT(f.matrix_seconds, 0);
  // 2^20 tokens have 2.6e8 times the pairs of 64 but 32768 times the tokens of 32: rates differ by
  // less than that.
  EXPECT_GT(f.attention_seconds, f.matrix_seconds);
  EXPECT_EQ(f.seconds(), f.matrix_seconds + f.attention_seconds);
  EXPECT_DOUBLE_EQ(f.matrix_rate() * f.matrix_seconds, f.flops.matrices);  // two roundings
  // Other types of attention are converted to before the clock runs, and count the same work.
  const LayerForward fp8 = scaled_layer_forward(*backend, config, 1 << 20, DType::f32, 0.001, 32,
                                                64, AttentionDType::fp8);
  EXPECT_EQ(fp8.flops.attention, f.flops.attention);
  EXPECT_GT(fp8.attention_rate(), 0);
}

}  // namespace
}  // namespace ringbolt
