// A model on a device, holding the oracle's parameters, ready to be compared with it.
#pragma once

#include <algorithm>

#include "core/model/transformer.h"
#include "rope/method.h"
#include "rope/table.h"
#include "tests/support/backend_cases.h"
#include "tests/support/parameters.h"

namespace ringbolt::testing_support {

class ModelUnderTest {
 public:
  ModelUnderTest(Backend& backend, const ModelConfig& config, DType dtype,
                 const reference::Parameters& parameters)
      : backend_(backend),
        store_(backend, config, dtype, StorePurpose::training),
        model_(backend, store_) {
    load_weights(backend, store_,
                 [&](const std::string& name, int64_t first, std::span<float> values) {
                   const reference::Values& all = parameters.at(name);
                   std::transform(all.begin() + first,
                                  all.begin() + first + static_cast<int64_t>(values.size()),
                                  values.begin(), [](double x) { return static_cast<float>(x); });
                 });
    store_.zero_gradients();
  }

  ResidentParameters& store() { return store_; }
  Transformer& model() { return model_; }

  RotaryTable table(const reference::Batch& batch) {
    return make_rotary_table(backend_, RotaryMethod(store_.config()), batch.positions);
  }

  /// Forward and backward of the mean loss over `counted` targets; `dangles`, where given, gets the
  /// gradient of the angles added.
  LossSum train(const reference::Batch& batch, Recompute policy, int64_t counted,
                MicroBatch which = MicroBatch::last_of_step, View dangles = {}) {
    WholeSequenceAttention attention(backend_, batch.slices);
    RotaryTable rotary = table(batch);
    rotary.dangles = dangles;
    return model_.train(batch.ids, batch.targets, rotary, attention, policy,
                        1.0F / static_cast<float>(counted), which);
  }

  enum class Part { weight, master, gradient };
  /// What the store holds of one kind, by name.
  reference::Parameters read(Part part) {
    reference::Parameters all;
    store_.for_each([&](const ParameterPiece& piece) {
      const View view = part == Part::weight   ? piece.weight
                        : part == Part::master ? piece.master
                                               : piece.gradient;
      const std::vector<double> values = as_doubles(download_f32(backend_, view));
      reference::Values& whole = all[piece.spec.name];
      whole.resize(static_cast<size_t>(piece.spec.shape.elements()));
      std::copy(values.begin(), values.end(), whole.begin() + piece.first);
    });
    return all;
  }
  reference::Parameters gradients() { return read(Part::gradient); }

 private:
  Backend& backend_;
  ResidentParameters store_;
  Transformer model_;
};

}  // namespace ringbolt::testing_support
