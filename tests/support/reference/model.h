// Reference of the whole LLaMA: embedding, L blocks, final norm, head, loss, and the gradient of
// every parameter.
//
// Parameters and gradients are keyed by Hugging Face's names, as core/model/config.h lists them.
#pragma once

#include <map>
#include <string>

#include "core/model/config.h"
#include "tests/support/reference/row_wise.h"
#include "tests/support/reference/values.h"

namespace ringbolt::reference {

using Parameters = std::map<std::string, Values>;

struct Batch {
  std::vector<int32_t> ids;        ///< (T)
  std::vector<int32_t> targets;    ///< (T), already shifted; negative is not counted
  std::vector<int64_t> positions;  ///< (T)
  Values angles = {};              ///< (T, D/2) in rad; empty: by position, base and linear factor
  std::vector<AttentionSlice> slices;  ///< over T queries and T keys
};
/// One causal sequence at positions 0, 1, …; targets are the ids shifted by one, the last token's
/// is not counted.
Batch causal_batch(std::vector<int32_t> ids);

struct ModelResult {
  double loss = 0;       ///< mean over the counted tokens
  Values logits;         ///< (T, V)
  CrossEntropy tokens;   ///< per token
  Parameters gradients;  ///< of `loss`; empty after model_forward
  Values dangles;        ///< (T, D/2): the gradient of the angles; likewise
};
ModelResult model_forward(const ModelConfig& config, const Parameters& parameters,
                          const Batch& batch);
ModelResult model_forward_backward(const ModelConfig& config, const Parameters& parameters,
                                   const Batch& batch);

}  // namespace ringbolt::reference
