// Rotary methods as Hugging Face's configurations have them: rope_scaling beside rope_theta (until
// version 4), or rope_parameters with everything inside (since version 5). What Hugging Face has no
// name for is written under our own.
//
// What differs between its versions, and what is done here:
// * The kind is "rope_type", in older files "type"; where both are given the first counts. "su" is
//   longrope.
// * yarn's and longrope's factor may be missing: it is then max_position_embeddings /
//   original_max_position_embeddings.
// * original_max_position_embeddings may be missing: L is then max_position_embeddings, which old
//   versions take for L even where the member is given. longrope models have it beside
//   rope_scaling.
// * mscale counts only together with mscale_all_dim.
#pragma once

#include <string>

#include "core/model/config.h"
#include "io/json.h"

namespace ringbolt {

/// The rope_scaling object, with both "rope_type" and "type"; null where there is nothing to say.
Json rope_scaling_json(const ModelConfig& config);

/// The rope_parameters object: the same, with rope_theta and partial_rotary_factor.
Json rope_parameters_json(const ModelConfig& config);

/// Reads either object into config.rope_theta and config.rope_scaling. Requires: the model's shape
/// is in config. Throws: IoError for a kind or a member that is unknown, and for one that is
/// missing or wrong.
void read_rope(const Json& json, const std::string& origin, ModelConfig& config);

}  // namespace ringbolt
