#include "core/bench/layer_forward.h"

#include <vector>

namespace ringbolt {
namespace {

/// `count` weights of (out, in).
struct Matrices {
  int64_t count, out, in;
};

std::vector<Matrices> matrices_of(const ModelConfig& c) {
  return {{1, c.query_width(), c.hidden_size},
          {2, c.key_value_width(), c.hidden_size},
          {1, c.hidden_size, c.query_width()},
          {2, c.intermediate_size, c.hidden_size},
          {1, c.hidden_size, c.intermediate_size}};
}

}  // namespace

ForwardFlops layer_forward_flops(const ModelConfig& config, int64_t tokens) {
  const auto n = static_cast<double>(tokens);
  ForwardFlops flops{0, 2 * n * (n + 1) * static_cast<double>(config.query_width())};
  for (const Matrices& m : matrices_of(config))
    flops.matrices += 2 * n * static_cast<double>(m.count * m.out) * static_cast<double>(m.in);
  return flops;
}

ForwardFlops model_forward_flops(const ModelConfig& config, int64_t tokens) {
  const ForwardFlops layer = layer_forward_flops(config, tokens);
  const auto layers = static_cast<double>(config.num_hidden_layers);
  const double head =
      2 * static_cast<double>(tokens) * static_cast<double>(config.vocab_size * config.hidden_size);
  return {layers * layer.matrices + head, layers * layer.attention};
}

LayerForward scaled_layer_forward(Backend& backend, const ModelConfig& config, int64_t tokens,
                                  DType dtype, double seconds, int64_t matrix_tokens,
                                  int64_t attention_tokens, AttentionDType attention_dtype) {
  const PeakMeasure no_peak = [](DType) { return 1.0; };
  LayerForward f{layer_forward_flops(config, tokens), 0, 0, matrix_tokens, attention_tokens};
  for (const Matrices& m : matrices_of(config)) {
    const MatmulCase shape{"", matrix_tokens, m.out, m.in, Transpose::no, Transpose::yes};
    const BenchResult r = bench_matmul(backend, shape, dtype, seconds, no_peak);
    f.matrix_seconds += static_cast<double>(m.count) * r.timing.median_seconds;
  }
  f.matrix_seconds *= f.flops.matrices / layer_forward_flops(config, matrix_tokens).matrices;
  const AttentionCase shape{attention_tokens, config.num_attention_heads,
                            config.num_key_value_heads, config.head_dim, attention_dtype};
  const BenchResult r = bench_attention_forward(backend, shape, dtype, seconds, no_peak);
  f.attention_seconds = f.flops.attention / r.rate();
  return f;
}

}  // namespace ringbolt
