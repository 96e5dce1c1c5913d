#include "apps/evaluate_setup.h"

#include <algorithm>
#include <utility>

#include "apps/rank_device.h"
#include "core/base/error.h"
#include "io/text_source.h"
#include "parallel/placement.h"
#include "rope/two_part.h"

namespace ringbolt {
namespace {

std::vector<int64_t> lengths_of(const EvaluateOptions& o, const ModelConfig& model) {
  return o.context_lengths.empty() ? std::vector<int64_t>{model.max_position_embeddings}
                                   : o.context_lengths;
}

EvaluationProtocol protocol_for(const EvaluateOptions& o, int64_t context_length, int32_t bos_id,
                                const ModelConfig& model) {
  EvaluationProtocol protocol;
  protocol.context_length = context_length;
  protocol.stride = o.stride;
  protocol.overlap = o.score_overlap ? Overlap::scored : Overlap::masked;
  protocol.bos_id = bos_id;
  protocol.parallel = o.positions.parallel(model);
  const int64_t scored = protocol.parallel ? protocol.parallel->query : context_length;
  protocol.buckets = std::min({o.buckets, context_length, scored});
  protocol.windows = o.windows;
  if (o.tokens_per_length > 0)
    protocol.windows = std::max<int64_t>(1, o.tokens_per_length / context_length);
  return protocol;
}

/// Every length is checked before the first is evaluated.
std::vector<EvaluationProtocol> protocols_for(const EvaluateOptions& o, const EvaluationData& data,
                                              const ModelConfig& model) {
  require_vocabulary(data.description, std::max<int64_t>(data.tokens.vocab_size(), data.bos_id + 1),
                     model);
  std::vector<EvaluationProtocol> protocols;
  for (const int64_t length : lengths_of(o, model)) {
    protocols.push_back(protocol_for(o, length, data.bos_id, model));
    validate(protocols.back());
    static_cast<void>(window_count(protocols.back(), data.tokens.tokens()));
  }
  return protocols;
}

AttentionDecision decide(const EvaluateOptions& o, Communicator& world, Backend& backend,
                         const ModelConfig& model) {
  const std::vector<int64_t> lengths = lengths_of(o, model);
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  return decide_attention(o.mesh, o.mesh.mesh(world.size(), model), world, backend, model,
                          {StorePurpose::inference, o.model.dtype, longest, o.attention_dtype});
}

}  // namespace

EvaluationData open_data(const EvaluateOptions& o) {
  constexpr int32_t kUsualBos = 1;
  const std::unique_ptr<Tokenizer> tokenizer = o.tokenizer ? make_tokenizer(*o.tokenizer) : nullptr;
  const int32_t usual = tokenizer && tokenizer->bos_id() >= 0 ? tokenizer->bos_id() : kUsualBos;
  const auto bos = static_cast<int32_t>(o.bos_id.value_or(usual));
  if (o.tokens) {
    TokenDataset data = TokenDataset::open(*o.tokens);
    if (tokenizer && tokenizer->hash() != data.tokenizer_hash()) {
      throw UsageError(message(concat("--tokenizer is not the one of ", *o.tokens),
                               concat("that file was made with ", data.tokenizer_name()),
                               "Leave it out, or name that one."));
    }
    return {std::move(data), bos, *o.tokens};
  }
  std::vector<int32_t> ids = encode_input(*tokenizer, {*o.text, -1});
  return {TokenDataset::from_memory(std::move(ids), tokenizer->vocab_size()), bos,
          concat(*o.text, " (tokenizer ", tokenizer->name(), ")")};
}

RankedModel::RankedModel(const EvaluateOptions& o, Communicator& world, const EvaluationData& data)
    : backend(o.device.make_backend(o.mesh.ranks.local_ranks)),
      tensors(make_tensor_communicator("evaluate", o.device, o.mesh.ranks, world, *backend)),
      config(o.model.config()),
      protocols(protocols_for(o, data, config)),
      decision(decide(o, *tensors, *backend, config)),
      memory(check_evaluation_memory(
          o, evaluation_shape(config, o.model.dtype, o.mesh, decision, o.device), protocols,
          data.tokens.tokens(), available_bytes(o.device, o.mesh.ranks, world))),
      loaded(*backend, o.model, memory.piece_tokens),
      mesh(world, *tensors, decision.mesh) {
  backend->reset_peak_memory();  // what the measurements of --attention auto took
}

std::unique_ptr<Placement> RankedModel::place(const EvaluateOptions& o,
                                              const std::optional<ParallelWindows>& windows) {
  const auto make = [&](const Visibility& seen) {
    return make_placement(*backend, mesh, o.mesh.layout, decision.choice, seen);
  };
  return windows ? make(*windows) : place_for_method(*backend, loaded.rotary_method(), make);
}

}  // namespace ringbolt
