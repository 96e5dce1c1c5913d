// The options of `ringbolt train`.
#pragma once

#include <optional>
#include <string>

#include "apps/common_options.h"
#include "apps/mesh_options.h"
#include "apps/options.h"
#include "apps/position_options.h"
#include "apps/rope_options.h"
#include "core/model/block.h"
#include "core/train/schedule.h"

namespace ringbolt {

/// What becomes of the documents of a training sequence (core/train/training_data.h).
enum class Documents { joined, separate };

struct TrainOptions {
  std::optional<std::string> checkpoint;
  std::optional<std::string> model;
  std::string tokens;
  std::optional<std::string> validation_tokens;
  Documents documents = Documents::joined;

  std::optional<int64_t> context_length;
  RopeOptions rope;
  PositionOptions positions;
  std::optional<RotaryPairing> rotary_pairing;

  int64_t steps = 0;
  int64_t batch_size = 8;
  int64_t gradient_accumulation = 1;
  double learning_rate = 3e-4;
  LearningRateSchedule::Shape schedule = LearningRateSchedule::Shape::cosine;
  int64_t warmup_steps = 0;
  double min_learning_rate = 0;
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double clip_norm = 1.0;
  int64_t seed = 1;

  DType dtype = DType::f32;
  Recompute recompute = Recompute::none;

  std::string output;
  bool resume = false;
  std::optional<int64_t> stop_after;
  int64_t checkpoint_every = 0;
  int64_t keep_checkpoints = 2;
  int64_t evaluate_every = 0;
  int64_t evaluation_windows = 16;

  MeshOptions mesh;
  DeviceOptions device;
  bool cuda_graph = false;
  OutputOptions out;

  void declare(OptionSet& options);
};

}  // namespace ringbolt
