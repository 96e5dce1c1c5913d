#include "apps/train_options.h"

namespace ringbolt {
namespace {

void declare_model(OptionSet& options, TrainOptions& t) {
  options.group("Model and data");
  options.add("checkpoint", "PATH", t.checkpoint,
              "Weights to fine-tune: a checkpoint's folder, a run's folder (its newest), or a "
              "llama2.c .bin file");
  options.add("model", "SHAPE", t.model,
              "Or a new model: tiny, 1m, 15m, 30m, 110m, llama2-7b …, or "
              "dim=64,layers=2,heads=4,kv-heads=2,vocab=259,tied");
  options.one_of({"checkpoint", "model"}, "training starts from a checkpoint or from new weights");
  options.add("tokens", "FILE", t.tokens, "Token file to train on, made by ringbolt tokenize")
      .required();
  options.add("validation-tokens", "FILE", t.validation_tokens,
              "Token file to evaluate on every --evaluate-every steps");
  options.choice<Documents>(
      "documents", t.documents, {{"joined", Documents::joined}, {"separate", Documents::separate}},
      "Documents of a sequence: joined to one text, or separate, each with its own positions and "
      "attention (the last token of one then has nothing to predict)");
  options.add("context-length", "N", t.context_length, "Tokens of a training sequence")
      .at_least(1)
      .by_default("the model's");
  options
      .choice<std::optional<RotaryPairing>>(
          "rotary-pairing", t.rotary_pairing,
          {{"half-split", RotaryPairing::half_split}, {"interleaved", RotaryPairing::interleaved}},
          "Which elements of a head rotate together, for a new model")
      .by_default("half-split");
  options.conflicts("rotary-pairing", "checkpoint", "a trained model has its pairing");
}

void declare_optimizer(OptionSet& options, TrainOptions& t) {
  options.group("Optimization");
  options.add("steps", "N", t.steps, "Optimizer steps of the whole run").required().at_least(1);
  options.add("batch-size", "N", t.batch_size, "Sequences of a micro-batch").at_least(1);
  options.add("gradient-accumulation", "N", t.gradient_accumulation, "Micro-batches of a step")
      .at_least(1);
  options.add("learning-rate", "R", t.learning_rate, "Highest learning rate").at_least(0);
  using Schedule = LearningRateSchedule::Shape;
  options.choice<Schedule>("schedule", t.schedule,
                           {{"constant", Schedule::constant},
                            {"linear", Schedule::linear},
                            {"cosine", Schedule::cosine}},
                           "How the learning rate falls after the warm-up");
  options.add("warmup-steps", "N", t.warmup_steps,
              "Steps over which the learning rate rises from 0");
  options.add("min-learning-rate", "R", t.min_learning_rate, "Learning rate at the last step")
      .at_least(0);
  options
      .add("weight-decay", "W", t.weight_decay,
           "Decoupled decay of matrices; norms and biases have none")
      .at_least(0);
  options.add("beta1", "B", t.beta1, "AdamW's decay of the first moment")
      .at_least(0)
      .at_most(0.999999);
  options.add("beta2", "B", t.beta2, "AdamW's decay of the second moment")
      .at_least(0)
      .at_most(0.9999999);
  options.add("epsilon", "E", t.epsilon, "AdamW's epsilon").above(0);
  options
      .add("clip-norm", "C", t.clip_norm,
           "Largest norm of all gradients together (CLEX's apart); 0 does not clip")
      .at_least(0);
  options.add("seed", "N", t.seed, "Seed of new weights and of the order of the data");
  options.group("Precision and memory");
  options.choice<DType>("dtype", t.dtype, {{"f32", DType::f32}, {"bf16", DType::bf16}},
                        "Type of weights and activations; bf16 keeps f32 master weights");
  options.choice<Recompute>("recompute", t.recompute,
                            {{"none", Recompute::none},
                             {"block", Recompute::block},
                             {"block-keep-attention", Recompute::block_keep_attention}},
                            "What backward computes again instead of keeping it");
  options.absent("attention-dtype", "attention in another type than the model's has no backward",
                 "Choose the model's by --dtype, and evaluate what was trained in any.");
}

void declare_run(OptionSet& options, TrainOptions& t) {
  options.group("Run");
  options
      .add("output", "DIR", t.output,
           "Folder of the run: options.json, metrics.jsonl, checkpoint-…")
      .required();
  options.flag("resume", t.resume,
               "Goes on from the newest checkpoint in --output, with the options stored there");
  options
      .add("stop-after", "N", t.stop_after,
           "Stops after this step as if SIGTERM had come: checkpoint, then exit")
      .at_least(1);
  options.add("checkpoint-every", "N", t.checkpoint_every,
              "Steps between checkpoints; 0 writes one at the end only");
  options.add("keep-checkpoints", "N", t.keep_checkpoints,
              "Newest checkpoints that stay; 0 keeps all");
  options.add("evaluate-every", "N", t.evaluate_every,
              "Steps between evaluations; 0 evaluates at the end only");
  options.add("evaluation-windows", "N", t.evaluation_windows, "Windows of an evaluation")
      .at_least(1);
  options.needs("evaluate-every", "validation-tokens", "evaluation wants other text than training");
}

}  // namespace

void TrainOptions::declare(OptionSet& options) {
  declare_model(options, *this);
  rope.declare(options, "the model's");
  positions.declare(options);
  declare_optimizer(options, *this);
  declare_run(options, *this);
  mesh.declare(options, StorePurpose::training);
  device.declare(options);
  options.flag("cuda-graph", cuda_graph,
               "With --device cuda: records a micro-batch as a CUDA graph and replays it for those "
               "that follow, if they are alike; saves the host's launches, which bound small "
               "models and short "
               "contexts (off: no device has shown yet how much)");
  out.declare(options);
  options.example(
      "train --model 1m --tokens tokens.h5 --context-length 256 --steps 500 --output run",
      "from scratch");
  options.example(
      "train --checkpoint run --tokens tokens.h5 --context-length 1K --rope-base 1e6 --steps 100 "
      "--learning-rate 1e-4 "
      "--output tuned",
      "fine-tune it at four times the length and another rotary base");
  options.example("train --output tuned --resume", "go on after an interruption");
  options.example(
      "train --checkpoint run --tokens tokens.h5 --context-length 16K --steps 100 --local-ranks 2 "
      "--output long",
      "split each sequence over two ranks, threads of this process");
}

}  // namespace ringbolt
