// ModelConfig as Hugging Face's config.json, whose names it uses; "ringbolt_rotary_pairing" is
// ours.
#pragma once

#include <string>

#include "core/model/config.h"
#include "io/json.h"

namespace ringbolt {

/// The members of config.json that describe the model's shape and rotary embedding.
Json to_json(const ModelConfig& config);

/// Missing members take Hugging Face's defaults for LLaMA. `origin` is the file, for messages.
/// Throws: IoError for a member of the wrong kind, a contradiction, or a feature that this build
/// lacks (rotary methods that differ from layer to layer, biases on o_proj).
ModelConfig model_from_json(const Json& json, const std::string& origin);

}  // namespace ringbolt
