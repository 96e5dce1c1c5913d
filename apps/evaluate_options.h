// The options of `ringbolt evaluate`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/common_options.h"
#include "apps/mesh_options.h"
#include "apps/model_options.h"
#include "apps/options.h"
#include "apps/untuned_positions.h"

namespace ringbolt {

struct EvaluateOptions {
  ModelOptions model;
  UntunedPositions positions;
  std::optional<std::string> tokenizer;
  std::optional<std::string> text;
  std::optional<std::string> tokens;
  std::vector<int64_t> context_lengths;
  int64_t windows = 0;
  int64_t tokens_per_length = 0;
  int64_t stride = 0;
  bool score_overlap = false;
  int64_t buckets = 4;
  std::optional<int64_t> piece_tokens;
  AttentionDType attention_dtype = AttentionDType::model;
  std::optional<int64_t> bos_id;
  std::optional<double> pretraining_base;
  std::optional<int64_t> pretraining_length;
  std::optional<std::string> plot;
  std::vector<std::string> compare;
  MeshOptions mesh;
  DeviceOptions device;
  OutputOptions out;

  void declare(OptionSet& options);
};

}  // namespace ringbolt
