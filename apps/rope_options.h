// Options that say how positions turn into angles: the rotary base, a method that extends the
// reach, and its numbers. What is not given is the checkpoint's.
#pragma once

#include <optional>
#include <string>

#include "apps/options.h"
#include "core/model/config.h"

namespace ringbolt {

struct RopeOptions {
  std::optional<double> base;
  std::optional<RopeMethod> method;
  std::optional<double> factor;
  std::optional<int64_t> original_length;
  std::optional<int64_t> window;
  std::optional<int64_t> group;
  bool resonance = false;
  std::optional<LogScale> log_scale;
  std::optional<std::string> scaling;  ///< a JSON object, or a file that holds one
  std::optional<double> linear_factor;

  /// `whose` has what is not given: "the checkpoint's".
  void declare(OptionSet& options, const std::string& whose = "the checkpoint's");
  /// L, unless given, is the length that the configuration has now. Throws: UsageError, IoError.
  void apply(ModelConfig& config) const;
};

/// Whether the method has a factor that a user chooses.
bool takes_factor(RopeMethod method);

/// The options' names: a resumed run may not change them.
std::vector<std::string> rope_option_names();

/// "base 10000, yarn x8 of 4K" for headings and legends.
std::string rope_description(const ModelConfig& config);

}  // namespace ringbolt
