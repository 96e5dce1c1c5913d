#include "apps/train_setup.h"

#include "apps/model_options.h"
#include "core/base/error.h"

namespace ringbolt {
namespace {

Json pretraining_of(const ModelConfig& config) {
  return Json::object()
      .set("rope_base", config.rope_theta)
      .set("context_length", config.max_position_embeddings);
}

Origin find_origin(const TrainOptions& o, const RunFolder& run) {
  Origin origin;
  if (o.resume) {
    if (const std::optional<FoundCheckpoint> newest = run.newest_checkpoint()) {
      origin.checkpoint = CheckpointReader::open(newest->folder);
      origin.config = origin.checkpoint->info().model;
      origin.step = origin.checkpoint->info().step;
      const Json training = Json::parse(origin.checkpoint->info().training_json, newest->folder);
      origin.pretraining = training.at("pretraining");
      origin.sequences = training.at("sequences").as_integer();
      return origin;
    }
  }
  if (o.checkpoint) {
    origin.weights = open_weights(*o.checkpoint);
    origin.config = origin.weights->config();
    origin.pretraining = pretraining_of(*o.checkpoint, origin.config);
  } else {
    origin.config = model_shape(*o.model);
    origin.config.rotary_pairing = o.rotary_pairing.value_or(RotaryPairing::half_split);
  }
  // The original length of a rotary method is a trained model's, and a new one's own.
  if (o.checkpoint) o.rope.apply(origin.config);
  origin.config.max_position_embeddings =
      o.context_length.value_or(origin.config.max_position_embeddings);
  if (o.model) o.rope.apply(origin.config);
  validate(origin.config);
  if (o.model) origin.pretraining = pretraining_of(origin.config);
  return origin;
}

TrainingRecipe recipe_of(const TrainOptions& o, const ModelConfig& config, int data_ranks) {
  TrainingRecipe recipe;
  recipe.context_length = config.max_position_embeddings;
  recipe.batch_size = o.batch_size;
  recipe.gradient_accumulation = o.gradient_accumulation;
  recipe.data_ranks = data_ranks;
  recipe.schedule = {o.schedule, o.learning_rate, o.min_learning_rate, o.warmup_steps, o.steps};
  recipe.beta1 = o.beta1;
  recipe.beta2 = o.beta2;
  recipe.epsilon = o.epsilon;
  recipe.weight_decay = o.weight_decay;
  recipe.clip_norm = o.clip_norm;
  recipe.seed = static_cast<uint64_t>(o.seed);
  recipe.recompute = o.recompute;
  validate(recipe);
  return recipe;
}

/// Which sequences a step sees follows from their number: a run that goes on on other ranks must
/// have as many a step.
void require_same_sequences(const Origin& origin, const TrainingRecipe& recipe) {
  const int64_t now = recipe.sequences_per_step();
  if (origin.step == 0 || origin.sequences == 0 || origin.sequences == origin.step * now) return;
  const int64_t before = origin.sequences / origin.step;
  throw UsageError(
      message(concat("a step would take ", now, " sequences (--batch-size ", recipe.batch_size,
                     " x --gradient-accumulation ", recipe.gradient_accumulation, " x ",
                     recipe.data_ranks, " data ranks), and took ", before, " so far"),
              "a resumed run goes on as it began",
              before % recipe.data_ranks == 0
                  ? concat("Choose batch size and accumulation so that they make ",
                           before / recipe.data_ranks, " together.")
                  : concat("Choose --sequence-ranks so that the data ranks divide ", before, ".")));
}

void require_trainable(const ModelConfig& config) {
  const RopeScaling& s = config.rope_scaling;
  if (s.method != RopeMethod::clex || !s.resonance) return;
  throw UsageError(message("--rope-resonance does not go with training clex",
                           "a period that is rounded to whole tokens has no gradient",
                           "Leave it out, and give it to evaluate."));
}

void require_mappable(const TrainOptions& o, const ModelConfig& config) {
  if (o.positions.map == PositionMap::none) return;
  const bool two_part = is_two_part(config.rope_scaling.method);
  if (!two_part && o.documents == Documents::joined) return;
  throw UsageError(
      message(concat("--position-map does not go with ",
                     two_part ? name_of(config.rope_scaling.method) : "--documents separate"),
              two_part ? "that method has positions of its own for far tokens"
                       : "positions begin anew in each document",
              "Leave one of them out."));
}

/// Of the rest the trainer knows: who the ranks are.
void require_recordable(const TrainOptions& o) {
  if (!o.cuda_graph) return;
  if (o.device.device != Device::cuda) {
    throw UsageError(message("--cuda-graph does not go with --device cpu",
                             "only what a GPU is given can be recorded",
                             "Use --device cuda, or leave --cuda-graph out."));
  }
  if (o.documents == Documents::joined) return;
  throw UsageError(message("--cuda-graph does not go with --documents separate",
                           "a recording has the documents of one micro-batch, and every other has "
                           "its own",
                           "Leave one of them out."));
}

TokenDataset open_tokens(const std::string& path, const ModelConfig& config) {
  TokenDataset data = TokenDataset::open(path);
  require_vocabulary(path, data.vocab_size(), config);
  return data;
}

}  // namespace

Json pretraining_of(const std::string& checkpoint, const ModelConfig& config) {
  if (const std::optional<CheckpointReader> reader = open_checkpoint(checkpoint)) {
    const Json training = Json::parse(reader->info().training_json, checkpoint);
    if (const Json* known = training.find("pretraining")) return *known;
  }
  return pretraining_of(config);
}

EvaluationProtocol validation_protocol(const TrainOptions& o, const TrainingRecipe& recipe) {
  EvaluationProtocol protocol;
  protocol.context_length = recipe.context_length;
  protocol.windows = o.evaluation_windows;
  return protocol;
}

TrainingSetup set_up_training(const TrainOptions& o, const RunFolder& run, int world) {
  Origin origin = find_origin(o, run);
  require_trainable(origin.config);
  require_mappable(o, origin.config);
  require_recordable(o);
  const MeshShape mesh = o.mesh.mesh(world, origin.config);
  const TrainingRecipe recipe = recipe_of(o, origin.config, mesh.data);
  require_same_sequences(origin, recipe);
  TokenDataset data = open_tokens(o.tokens, origin.config);
  static_cast<void>(SequenceOrder(data.tokens(), recipe.context_length, recipe.seed));
  static_cast<void>(o.positions.positions(recipe, data));
  std::optional<TokenDataset> validation;
  if (o.validation_tokens) {
    validation = open_tokens(*o.validation_tokens, origin.config);
    static_cast<void>(window_count(validation_protocol(o, recipe), validation->tokens()));
  }
  return {std::move(origin), mesh, recipe, std::move(data), std::move(validation)};
}

}  // namespace ringbolt
