#include "core/generate/generator.h"

#include <numeric>
#include <utility>

namespace ringbolt {

namespace {

KvCache first_cache(Backend& backend, const ModelConfig& config, DType dtype,
                    const GrowingRotation& rotation, int64_t capacity) {
  if (rotation.two_part)
    return {backend, config, dtype, capacity, DistanceRange{0, rotation.two_part->window}};
  const Visibility seen = rotation.windows ? Visibility(*rotation.windows) : Visibility();
  if (rotation.depends_on_length) return {backend, config, dtype, capacity, seen, rotation.tables};
  return {backend, config, dtype, capacity, seen};
}

}  // namespace

Generator::Generator(Backend& backend, Transformer& model, DType dtype, GrowingRotation rotation,
                     int64_t capacity)
    : backend_(backend),
      model_(model),
      rotation_(std::move(rotation)),
      cache_(first_cache(backend, model.config(), dtype, rotation_, capacity)) {
  if (!rotation_.two_part) return;
  DistanceRange far;
  far.least = rotation_.two_part->window;
  far_cache_.emplace(backend, model.config(), dtype, capacity, far);
}

std::vector<float> Generator::feed(std::span<const int32_t> ids) {
  std::vector<int64_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), cache_.length());
  if (rotation_.two_part) {
    TwoPartAttention attention(backend_, cache_, *far_cache_, rotation_.two_part->tables(positions),
                               model_.config().rotary_pairing);
    return model_.next_logits(ids, rotated_by_attention(), attention);
  }
  if (rotation_.depends_on_length) return model_.next_logits(ids, rotated_by_attention(), cache_);
  return model_.next_logits(ids, rotation_.tables(positions), cache_);
}

void Generator::run(std::span<const int32_t> prompt, int64_t max_tokens,
                    const SamplingOptions& options,
                    const std::function<bool(int32_t token)>& emit) {
  validate(options);
  std::vector<float> logits = feed(prompt);
  for (int64_t n = 0; n < max_tokens; ++n) {
    const int32_t token = sample(logits, options, cache_.length());
    if (!emit(token) || n + 1 == max_tokens) return;
    logits = feed(std::span(&token, 1));
  }
}

}  // namespace ringbolt
