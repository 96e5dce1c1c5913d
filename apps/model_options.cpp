#include "apps/model_options.h"

#include "core/base/error.h"
#include "rope/frequencies.h"
#include "rope/table.h"

namespace ringbolt {
namespace {

ModelConfig with_rope(ModelConfig config, const RopeOptions& rope) {
  rope.apply(config);
  validate(config);
  return config;
}

}  // namespace

void RopeOptions::declare(OptionSet& options) {
  options.add("rope-base", "B", base, "Rotary base (theta), for example 1e6")
      .above(1)
      .by_default("the checkpoint's");
  options
      .add("rope-linear-factor", "F", linear_factor, "Positions are divided by it (linear scaling)")
      .at_least(1)
      .by_default("the checkpoint's");
}

void RopeOptions::apply(ModelConfig& config) const {
  config.rope_theta = base.value_or(config.rope_theta);
  config.rope_linear_factor = linear_factor.value_or(config.rope_linear_factor);
}

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

LoadedModel::LoadedModel(Backend& backend, const ModelOptions& options)
    : backend_(backend),
      source_(open_weights(options.checkpoint)),
      parameters_(backend, with_rope(source_->config(), options.rope), options.dtype,
                  StorePurpose::inference),
      model_(backend, parameters_) {
  frequencies_ = frequencies_of(config());
  load_weights(backend, parameters_,
               [this](const std::string& name, int64_t first, std::span<float> values) {
                 source_->read(name, first, values);
               });
}

RotaryTables LoadedModel::rotary() const {
  return [this](std::span<const int64_t> positions) {
    return make_rotary_table(backend_, frequencies_, positions);
  };
}

void require_vocabulary(const std::string& what, int64_t vocab_size, const ModelConfig& model) {
  if (vocab_size <= model.vocab_size) return;
  throw UsageError(message(concat(what, " has ", vocab_size, " ids"),
                           concat("the model's vocabulary is ", model.vocab_size),
                           "Use the tokenizer that the model was trained with."));
}

}  // namespace ringbolt
