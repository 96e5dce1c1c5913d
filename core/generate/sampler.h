// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <span>

namespace ringbolt {

struct SamplingOptions {
  double temperature = 1.0;  ///< 0: always the largest logit (the first one of equals)
  int64_t top_k = 0;         ///< only the k most likely tokens; 0: all
  double top_p = 1.0;        ///< only the most likely tokens that together reach this probability
  uint64_t seed = 1;
};

/// Throws: UsageError naming the first value that cannot be.
void validate(const SamplingOptions& options);

/// The token at position `index` of the text, a pure function of (logits, options, index).
int32_t sample(std::span<const float> logits, const SamplingOptions& options, int64_t index);

}  // namespace ringbolt
