// Who holds a model's parameters, gradients and optimizer state.
//
// Each group (core/model/config.h) is one flat buffer a kind, so that reducing, sharding and
// clearing a layer is one call. `ResidentParameters` keeps everything here;
// parallel/sharded_parameters keeps a piece. One visitor over (name, weight, gradient, moments)
// serves initialisation, loading, saving, norm and update, so that a new weight cannot be forgotten
// in one.
//
// Where ranks share a model, every call but config(), dtype() and for_each() is collective, in the
// same order on all ranks.
#pragma once

#include <functional>
#include <vector>

#include "core/backend/backend.h"
#include "core/model/config.h"

namespace ringbolt {

/// The pieces of one named tensor that this rank owns: elements [first, first + count) of it, flat.
struct ParameterPiece {
  const ParameterSpec& spec;
  int64_t first;
  int64_t count;
  View weight;    ///< A, or the group's own type: what the model computes with
  View master;    ///< f32; the same memory as `weight` where that is f32, empty in a bf16 store for
                  ///< inference
  View gradient;  ///< f32; this and the moments are empty in a store for inference
  View m;         ///< f32, first moment
  View v;         ///< f32, second moment
};

/// Whether other micro-batches of the same step follow one.
enum class MicroBatch { more_follow, last_of_step };

/// Euclidean norms of gradients.
struct GradientNorms {
  double model = 0;
  double rotary = 0;  ///< of a rotary method's own weights
  friend bool operator==(const GradientNorms&, const GradientNorms&) = default;
};

class ParameterStore {
 public:
  virtual ~ParameterStore() = default;

  virtual const ModelConfig& config() const = 0;
  virtual DType dtype() const = 0;
  /// Flat weights of a whole group, A (f32 where the group says so). Asked anew for every use: the
  /// view holds until the weights of two other groups have been asked for (a tied head uses two at
  /// once), so that a store may gather them when they are needed and drop them then.
  virtual ConstView weights(int64_t group) = 0;
  /// Flat gradient sums of a whole group, f32, to be added to until gradients_complete(group).
  /// Requires: a store for training.
  virtual View gradients(int64_t group) = 0;
  virtual void zero_gradients() = 0;
  /// Backward of a micro-batch added its last to this group: a store over ranks may reduce and drop
  /// what it has.
  virtual void gradients_complete(int64_t group, MicroBatch which) = 0;
  /// Visits this rank's pieces, group by group. Who sets masters and weights there calls
  /// weights_changed() afterwards.
  virtual void for_each(const std::function<void(const ParameterPiece&)>& visit) = 0;
  /// Weights were set through for_each: weights() of all ranks show them from here on.
  virtual void weights_changed() = 0;
  /// Of the gradients of all ranks. Waits.
  virtual GradientNorms gradient_norms() = 0;
  /// One AdamW step; `step.weight_decay` applies where the spec says so, and
  /// `rotary_gradient_scale` in the place of step.gradient_scale to a rotary method's own weights.
  virtual void update(const AdamWStep& step, float rotary_gradient_scale) = 0;
};

enum class StorePurpose { inference, training };

class ResidentParameters final : public ParameterStore {
 public:
  /// Weights, gradients and moments are zero. Throws: DeviceError when the memory is not there.
  ResidentParameters(Backend& backend, const ModelConfig& config, DType dtype,
                     StorePurpose purpose);

  const ModelConfig& config() const override { return config_; }
  DType dtype() const override { return dtype_; }
  ConstView weights(int64_t group) override { return buffers(group).weights; }
  View gradients(int64_t group) override { return buffers(group).gradients; }
  void zero_gradients() override;
  void gradients_complete(int64_t, MicroBatch) override {}
  void for_each(const std::function<void(const ParameterPiece&)>& visit) override;
  void weights_changed() override {}
  GradientNorms gradient_norms() override;
  void update(const AdamWStep& step, float rotary_gradient_scale) override;

 private:
  struct Buffers {
    Tensor weights;
    Tensor masters;  ///< empty in an f32 model and for inference
    Tensor gradients;
    Tensor m;
    Tensor v;
  };
  Buffers& buffers(int64_t group) { return buffers_[static_cast<size_t>(group)]; }

  Backend& backend_;
  ModelConfig config_;
  DType dtype_;
  std::vector<ParameterGroup> groups_;
  std::vector<Buffers> buffers_;
};

/// Of a tensor's normal initial values: 0.02, divided by sqrt(2 L) for the projections that end a
/// residual branch (GPT-2's rule).
double initial_deviation(const ParameterSpec& spec, const ModelConfig& config);

/// Draws the initial weights: normal with initial_deviation(), one for norms, zero for biases,
/// CLEX's as released. A function of (seed, name, element) alone.
void initialise(Backend& backend, ParameterStore& store, uint64_t seed);

/// ParameterStore::update of the pieces that a store holds.
void update_pieces(Backend& backend, ParameterStore& store, const AdamWStep& step,
                   float rotary_gradient_scale);

/// Reads elements [first, first + count) of the named tensor as f32.
using TensorReader =
    std::function<void(const std::string& name, int64_t first, std::span<float> values)>;
/// Whether a source has the named tensor; empty: it has all.
using TensorFinder = std::function<bool(const std::string& name)>;
/// Sets masters, where there are any, and weights from `read`. What the source lacks and may lack
/// gets the initial value of `seed`.
void load_weights(Backend& backend, ParameterStore& store, const TensorReader& read,
                  const TensorFinder& has = {}, uint64_t seed = 1);

}  // namespace ringbolt
