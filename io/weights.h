// Where a model's weights come from: a Ringbolt checkpoint, or a llama2.c file.
//
// Names are Hugging Face's ("model.layers.0.self_attn.q_proj.weight"), shapes those of
// parameter_groups(config).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "core/model/config.h"

namespace ringbolt {

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual const ModelConfig& config() const = 0;
  virtual bool has(const std::string& name) const = 0;
  /// Elements [first, first + out.size()) of the flat, row-major tensor, as f32. Throws: IoError.
  virtual void read(const std::string& name, int64_t first, std::span<float> out) const = 0;
  /// What it is, for a log line: "llama2.c checkpoint stories260K.bin".
  virtual std::string description() const = 0;
};

/// A checkpoint's folder or its index.h5, a run's folder (its newest checkpoint), or a llama2.c
/// .bin file. Throws: IoError saying what is wrong with it, or that it is none of these.
std::unique_ptr<WeightSource> open_weights(const std::string& path);

}  // namespace ringbolt
