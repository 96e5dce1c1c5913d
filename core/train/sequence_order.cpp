#include "core/train/sequence_order.h"

#include <algorithm>
#include <bit>

#include "core/base/error.h"
#include "core/base/random.h"

namespace ringbolt {

Permutation::Permutation(int64_t n, uint64_t seed, uint64_t stream)
    : n_(static_cast<uint64_t>(n)), seed_(seed), stream_(stream) {
  const int bits = static_cast<int>(std::bit_width(n_ - 1));
  half_bits_ = std::max(1, (bits + 1) / 2);
}

uint64_t Permutation::encrypt(uint64_t x) const {
  constexpr uint64_t kRounds = 4;
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = x >> half_bits_;
  uint64_t right = x & mask;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t mixed = Philox(seed_, stream_).bits(right * kRounds + round) & mask;
    const uint64_t next = left ^ mixed;
    left = right;
    right = next;
  }
  return (left << half_bits_) | right;
}

int64_t Permutation::operator()(int64_t i) const {
  uint64_t x = static_cast<uint64_t>(i);
  do x = encrypt(x);
  while (x >= n_);
  return static_cast<int64_t>(x);
}

SequenceOrder::SequenceOrder(int64_t stream_tokens, int64_t context_length, uint64_t seed)
    : context_length_(context_length),
      sequences_((stream_tokens - 1) / context_length),
      seed_(seed) {
  if (stream_tokens < context_length + 1) {
    throw UsageError(
        message(concat("the context length ", context_length, " is longer than the data"),
                concat("there are ", stream_tokens,
                       " tokens, and a sequence needs one more than its length"),
                "Use a shorter --context-length or more text."));
  }
}

int64_t SequenceOrder::begin(int64_t index) const {
  const int64_t epoch = index / sequences_;
  const Permutation order(sequences_, seed_,
                          stream_of("sequence order") + static_cast<uint64_t>(epoch));
  return order(index % sequences_) * context_length_;
}

}  // namespace ringbolt
