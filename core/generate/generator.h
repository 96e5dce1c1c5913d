// Text generation with a key/value cache.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/evaluate/context_loss.h"
#include "core/generate/kv_cache.h"
#include "core/generate/sampler.h"
#include "core/model/two_part_attention.h"

namespace ringbolt {

/// How the model's rotary method works on a text that grows, which decides what is cached.
struct GrowingRotation {
  RotaryTables tables;
  bool depends_on_length =
      false;  ///< angles of early tokens change as the text grows: keys are cached unrotated
  std::optional<TwoPartRotation> two_part =
      std::nullopt;  ///< attention in two parts: a cache of rotated keys for each
  std::optional<ParallelWindows> windows =
      std::nullopt;  ///< what tokens see, where it is not all before them; not in two parts
};

class Generator {
 public:
  /// Room for `capacity` tokens, prompt included.
  Generator(Backend& backend, Transformer& model, DType dtype, GrowingRotation rotation,
            int64_t capacity);
  /// For a method whose angles never change.
  Generator(Backend& backend, Transformer& model, DType dtype, RotaryTables rotary,
            int64_t capacity)
      : Generator(backend, model, dtype, GrowingRotation{std::move(rotary), false, std::nullopt},
                  capacity) {}

  /// Feeds tokens and returns the logits (V) of the one after the last.
  std::vector<float> feed(std::span<const int32_t> ids);

  /// Feeds the prompt, then samples up to `max_tokens` more, handing each to `emit`, which may end
  /// it by returning false.
  void run(std::span<const int32_t> prompt, int64_t max_tokens, const SamplingOptions& options,
           const std::function<bool(int32_t token)>& emit);

 private:
  Backend& backend_;
  Transformer& model_;
  GrowingRotation rotation_;
  KvCache cache_;  ///< of all keys, or of the near ones
  std::optional<KvCache> far_cache_;
};

}  // namespace ringbolt
