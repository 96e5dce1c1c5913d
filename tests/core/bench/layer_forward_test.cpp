#include "core/bench/layer_forward.h"

#include <gtest/gtest.h>

namespace ringbolt {
namespace {

TEST(LayerForwardFlops, CountEveryWeightAndEveryVisiblePair) {
  // Grouped queries, so that no two widths are the same: E 48, H D = 6 x 12, K D = 2 x 12, F 80.
  const ModelConfig config = model_shape("dim=48,layers=1,heads=6,kv-heads=2,head-dim=12,ffn=80,vocab=31");
  constexpr int64_t kTokens = 7;
  const LayerFlops flops = layer_forward_flops(config, kTokens);
  EXPECT_EQ(flops.matrices, 2.0 * kTokens * (48 * 72 + 2 * 48 * 24 + 72 * 48 + 3 * 48 * 80));
  EXPECT_EQ(flops.attention, 4.0 * 12 * 6 * (kTokens * (kTokens + 1) / 2));
  // The layer's parameters beside its two norms.
  ModelConfig none = config;
  none.num_hidden_layers = 0;
  EXPECT_EQ(flops.matrices, 2.0 * kTokens * static_cast<double>(config.parameter_count() - none.parameter_count() - 2 * 48));
}

TEST(ScaledLayerForward, GrowsLinearlyInItsMatricesAndQuadraticallyInAttention) {
  const auto backend = make_cpu_backend(1);
  const ModelConfig config = model_shape("dim=64,layers=1,heads=4,kv-heads=2,ffn=96,vocab=31");
  const LayerForward f = scaled_layer_forward(*backend, config, 1 << 20, DType::f32, 0.001, 32, 64);
  EXPECT_EQ(f.flops.attention, layer_forward_flops(config, 1 << 20).attention);
  EXPECT_GT(f.matrix_seconds, 0);
  // 2^20 tokens have 2.6e8 times the pairs of 64 but 32768 times the tokens of 32: rates differ by less than that.
  EXPECT_GT(f.attention_seconds, f.matrix_seconds);
  EXPECT_EQ(f.seconds(), f.matrix_seconds + f.attention_seconds);
}

}  // namespace
}  // namespace ringbolt
