#include "apps/model_options.h"

#include "core/base/error.h"
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

LoadedModel::LoadedModel(Backend& backend, const ModelOptions& options)
    : backend_(backend),
      source_(open_weights(options.checkpoint)),
      parameters_(backend, with_rope(source_->config(), options.rope), options.dtype,
                  StorePurpose::inference),
      method_(parameters_.config()),
      model_(backend, parameters_) {
  load_weights(backend, parameters_,
               [this](const std::string& name, int64_t first, std::span<float> values) {
                 source_->read(name, first, values);
               });
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

void require_vocabulary(const std::string& what, int64_t vocab_size, const ModelConfig& model) {
  if (vocab_size <= model.vocab_size) return;
  throw UsageError(message(concat(what, " has ", vocab_size, " ids"),
                           concat("the model's vocabulary is ", model.vocab_size),
                           "Use the tokenizer that the model was trained with."));
}

}  // namespace ringbolt
