#include "core/bench/layer.h"

#include "core/bench/workloads.h"

namespace ringbolt {

LayerForward layer_forward(Backend& backend, const ModelConfig& config, DType dtype, int64_t tokens, double seconds) {
  constexpr int64_t kProductTokens = 512;
  constexpr int64_t kAttentionTokens = 4096;
  const PeakMeasure no_peak = [](DType) { return 1.0; };
  const int64_t e = config.hidden_size;
  const int64_t f = config.intermediate_size;
  const int64_t query = config.num_attention_heads * config.head_dim;
  const int64_t key = config.num_key_value_heads * config.head_dim;
  double product_flops = 0;
  double product_seconds = 0;
  for (const MatmulCase& shape : {MatmulCase{"qkv", kProductTokens, query + 2 * key, e, Transpose::no, Transpose::yes},
                                  MatmulCase{"output", kProductTokens, e, query, Transpose::no, Transpose::yes},
                                  MatmulCase{"gate and up", kProductTokens, 2 * f, e, Transpose::no, Transpose::yes},
                                  MatmulCase{"down", kProductTokens, e, f, Transpose::no, Transpose::yes}}) {
    const BenchResult product = bench_matmul(backend, shape, dtype, seconds, no_peak);
    product_flops += product.flops;
    product_seconds += product.timing.median_seconds;
  }
  const BenchResult attention =
      bench_attention(backend, {kAttentionTokens, config.num_attention_heads, config.num_key_value_heads, config.head_dim},
                      dtype, seconds, no_peak)
          .front();
  LayerForward layer{product_flops / product_seconds, attention.rate(), kProductTokens, kAttentionTokens, 0, 0};
  const auto n = static_cast<double>(tokens);
  const double products = product_flops / static_cast<double>(kProductTokens) * n;
  const double pairs = 2 * n * (n + 1) * static_cast<double>(query);  // 4 D a pair and head
  layer.flops = products + pairs;
  layer.seconds = products / layer.product_rate + pairs / layer.attention_rate;
  return layer;
}

}  // namespace ringbolt
