#include "apps/model_options.h"

#include <map>

#include "core/base/error.h"
#include "rope/clex_training.h"
#include "rope/table.h"
#include "rope/two_part.h"

namespace ringbolt {
namespace {

ModelConfig with_rope(ModelConfig config, const RopeOptions& rope) {
  rope.apply(config);
  validate(config);
  return config;
}

}  // namespace

void ModelOptions::declare(OptionSet& options) {
  options.group("Model");
  options
      .add("checkpoint", "PATH", checkpoint,
           "A checkpoint's folder, a run's folder (its newest checkpoint), or a llama2.c .bin file")
      .required();
  options.choice<DType>("dtype", dtype, {{"f32", DType::f32}, {"bf16", DType::bf16}},
                        "Type of weights and activations");
  rope.declare(options);
}

ModelConfig ModelOptions::config() const {
  return with_rope(open_weights(checkpoint)->config(), rope);
}

LoadedModel::LoadedModel(Backend& backend, const ModelOptions& options, int64_t piece_tokens)
    : backend_(backend),
      source_(open_weights(options.checkpoint)),
      parameters_(backend, with_rope(source_->config(), options.rope), options.dtype,
                  StorePurpose::inference),
      method_(parameters_.config()),
      model_(backend, parameters_, piece_tokens) {
  load_weights_of(*source_, backend, parameters_, 1);
  if (config().rope_scaling.method == RopeMethod::clex)
    method_.set_clex_weights(read_clex_weights(backend, parameters_));
}

RotaryTables LoadedModel::rotary(int64_t length) const {
  return rotary_tables(backend_, method_, length);
}

GrowingRotation LoadedModel::growing_rotation() const {
  GrowingRotation rotation{rotary(), method_.depends_on_length(), std::nullopt};
  if (is_two_part(config().rope_scaling.method))
    rotation.two_part = two_part_rotation(backend_, method_);
  return rotation;
}

void load_weights_of(const WeightSource& source, Backend& backend, ParameterStore& parameters,
                     uint64_t seed) {
  std::map<std::string, Shape> stored;
  for (const ParameterGroup& group : parameter_groups(source.config())) {
    for (const ParameterSpec& spec : group.tensors) stored.emplace(spec.name, spec.shape);
  }
  for (const ParameterGroup& group : parameter_groups(parameters.config())) {
    for (const ParameterSpec& spec : group.tensors) {
      const auto found = stored.find(spec.name);
      if (found == stored.end() || found->second == spec.shape) continue;
      throw UsageError(message(concat("the rotary options do not fit ", source.description()),
                               concat(spec.name, " has the shape ", found->second.str(),
                                      " there and ", spec.shape.str(), " by the options"),
                               "Leave --rope-scaling and --rope-method out."));
    }
  }
  load_weights(
      backend, parameters,
      [&](const std::string& name, int64_t first, std::span<float> values) {
        source.read(name, first, values);
      },
      [&](const std::string& name) { return source.has(name); }, seed);
}

void require_vocabulary(const std::string& what, int64_t vocab_size, const ModelConfig& model) {
  if (vocab_size <= model.vocab_size) return;
  throw UsageError(message(concat(what, " has ", vocab_size, " ids"),
                           concat("the model's vocabulary is ", model.vocab_size),
                           "Use the tokenizer that the model was trained with."));
}

}  // namespace ringbolt
