// Text generation with a key/value cache.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/evaluate/context_loss.h"
#include "core/generate/kv_cache.h"
#include "core/generate/sampler.h"

namespace ringbolt {

class Generator {
 public:
  /// Room for `capacity` tokens, prompt included.
  Generator(Backend& backend, Transformer& model, DType dtype, RotaryTables rotary, int64_t capacity)
      : model_(model), rotary_(std::move(rotary)), cache_(backend, model.config(), dtype, capacity) {}

  /// Feeds tokens and returns the logits (V) of the one after the last.
  std::vector<float> feed(std::span<const int32_t> ids);

  /// Feeds the prompt, then samples up to `max_tokens` more, handing each to `emit`, which may end it by returning false.
  void run(std::span<const int32_t> prompt, int64_t max_tokens, const SamplingOptions& options,
           const std::function<bool(int32_t token)>& emit);

 private:
  Transformer& model_;
  RotaryTables rotary_;
  KvCache cache_;
};

}  // namespace ringbolt
