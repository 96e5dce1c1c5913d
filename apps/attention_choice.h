// Which attention a run on ranks uses: what the options say, or for --attention auto what the cost
// model says of rates that are measured at the start.
#pragma once

#include <cstdint>
#include <string>

#include "apps/mesh_options.h"
#include "core/backend/backend.h"
#include "core/model/attention_operands.h"
#include "core/model/config.h"
#include "core/model/parameters.h"

namespace ringbolt {

struct AttentionDecision {
  MeshShape mesh;
  AttentionChoice choice;
  std::string reason;  ///< one line; empty where the options decided
};

/// What the attention is for.
struct AttentionUse {
  StorePurpose purpose;  ///< inference has no backward to weigh
  DType dtype;
  int64_t tokens;  ///< of a sequence
  AttentionDType computed_in = AttentionDType::model;
};

/// `mesh` is what the options say of the ranks; `world` is of the backend's memory. Collective; the
/// same on all ranks. Throws: UsageError where the device has no attention of that type.
AttentionDecision decide_attention(const MeshOptions& options, const MeshShape& mesh,
                                   Communicator& world, Backend& backend, const ModelConfig& model,
                                   const AttentionUse& use);

/// "4 ranks (2 data x 2 sequence, zigzag, ring)".
std::string describe(const MeshOptions& options, const AttentionDecision& decision);
Json to_json(const MeshOptions& options, const AttentionDecision& decision);
/// The options of a run (a JSON object) with what was decided in place of "auto", so that they
/// repeat it.
Json with_decision(Json options, const AttentionDecision& decision);

}  // namespace ringbolt
