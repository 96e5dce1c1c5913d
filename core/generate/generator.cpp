#include "core/generate/generator.h"

#include <numeric>

namespace ringbolt {

std::vector<float> Generator::feed(std::span<const int32_t> ids) {
  std::vector<int64_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), cache_.length());
  return model_.next_logits(ids, rotary_(positions), cache_);
}

void Generator::run(std::span<const int32_t> prompt, int64_t max_tokens, const SamplingOptions& options,
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
