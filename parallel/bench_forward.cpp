#include "parallel/bench_forward.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <iterator>
#include <span>
#include <utility>

#include "core/bench/random_data.h"
#include "core/evaluate/context_loss.h"

namespace ringbolt {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

/// One pass: when it began, when its rotary table was there, and when each layer was done.
struct PassClock {
  Clock::time_point begin;
  Clock::time_point table;
  std::vector<Clock::time_point> layers;
  Clock::time_point end;

  /// Seconds: the whole, the table, each layer.
  std::vector<double> durations() const {
    std::vector<double> result{seconds_between(begin, end), seconds_between(begin, table)};
    Clock::time_point last = table;
    for (const Clock::time_point layer : layers)
      result.push_back(seconds_between(std::exchange(last, layer), layer));
    return result;
  }
};

/// Each element's median over passes.
std::vector<double> medians(const std::vector<std::vector<double>>& passes) {
  std::vector<double> result;
  for (size_t i = 0; i < passes[0].size(); ++i) {
    std::vector<double> values;
    values.reserve(passes.size());
    for (const std::vector<double>& pass : passes) values.push_back(pass[i]);
    result.push_back(median(std::move(values)));
  }
  return result;
}

}  // namespace

ForwardRates measure_forward_rates(Backend& backend, Communicator& world, const ModelConfig& config,
                                   DType dtype, AttentionDType attention_dtype,
                                   int64_t attention_tokens, int64_t matrix_tokens,
                                   double seconds) {
  world.barrier();
  const LayerForward layer = scaled_layer_forward(backend, config, attention_tokens, dtype, seconds,
                                                  matrix_tokens, attention_tokens, attention_dtype);
  std::array<double, 2> rates{layer.attention_rate(), layer.matrix_rate()};
  world.all_reduce(std::span<double>(rates));
  return {attention_tokens, matrix_tokens, rates[0] / world.size(), rates[1] / world.size()};
}

ForwardRates higher(const ForwardRates& a, const ForwardRates& b) {
  ForwardRates result = a;
  result.attention = std::max(a.attention, b.attention);
  result.matrices = std::max(a.matrices, b.matrices);
  return result;
}

ForwardTiming time_forward(Backend& backend, Communicator& world, Transformer& model,
                           Placement& placement, const RotaryTables& rotary, int64_t tokens,
                           const ForwardPasses& repeat, const LayerProgress& progress) {
  const auto layers = static_cast<size_t>(model.config().num_hidden_layers);
  const EvaluationProtocol protocol{
      .context_length = tokens, .windows = 1, .bos_id = 0, .buckets = 1};
  ForwardTiming result;
  std::vector<std::vector<double>> passes;
  double spent = 0, last = 0;
  PassClock clock;
  const auto now = [&] {
    backend.synchronize();
    return Clock::now();
  };
  const RotaryTables timed_rotary = [&](std::span<const int64_t> positions) {
    RotaryTable table = rotary(positions);
    clock.table = now();
    return table;
  };
  const auto after_layer = [&](int64_t, int64_t) {
    if (clock.layers.size() == layers) return;  // the head is no layer
    clock.layers.push_back(now());
    if (progress && passes.empty()) progress(static_cast<int64_t>(clock.layers.size()));
  };
  backend.reset_peak_memory();
  do {
    clock = {};
    world.barrier();
    clock.begin = Clock::now();
    const ContextLoss loss =
        evaluate_context(model, placement, protocol, tokens,
                         random_tokens(model.config().vocab_size), timed_rotary, after_layer);
    clock.end = now();
    std::vector<double> durations = clock.durations();
    all_reduce_largest(world, std::span(durations));
    last = durations[0];
    spent += last;
    passes.push_back(std::move(durations));
    result.loss = loss.mean();
  } while (std::ssize(passes) < repeat.least || spent + last <= repeat.seconds);
  const std::vector<double> middle = medians(passes);
  result.seconds = middle[0];
  result.table_seconds = middle[1];
  result.layer_seconds.assign(middle.begin() + 2, middle.end());
  result.passes = static_cast<int64_t>(passes.size());
  result.peak_bytes = backend.memory().peak_bytes;
  all_reduce_largest(world, std::span(&result.peak_bytes, 1));
  return result;
}

}  // namespace ringbolt
