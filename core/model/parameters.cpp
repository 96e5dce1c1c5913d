#include "core/model/parameters.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "core/base/random.h"

namespace ringbolt {
namespace {

/// The piece's part of a flat buffer; an empty buffer has empty parts.
View part(Tensor& flat, int64_t offset, int64_t count) {
  return flat.empty() ? View() : flat.view().slice_rows(offset, offset + count);
}

/// Elements [first, first + values.size()) of a tensor that training begins with.
void draw_initial(const ParameterPiece& piece, const ModelConfig& config, uint64_t seed,
                  std::span<float> values) {
  const Philox random(seed, stream_of(piece.spec.name));
  const double deviation = initial_deviation(piece.spec, config);
  const auto value_of = [&](uint64_t element) {
    switch (piece.spec.initial) {
      case InitialValue::zero:
        return 0.0;
      case InitialValue::one:
        return 1.0;
      case InitialValue::normal:
      case InitialValue::normal_residual:
        return deviation * random.normal(element);
      case InitialValue::uniform_by_width:
        return (2 * random.uniform(element) - 1) /
               std::sqrt(static_cast<double>(piece.spec.shape[1]));
    }
    return 0.0;
  };
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(value_of(static_cast<uint64_t>(piece.first) + i));
  }
}

/// Elements that are rounded at a time where there is no master: 64 MiB of f32.
constexpr int64_t kRoundedElements = int64_t{1} << 24;

void set_weights(Backend& backend, const ParameterPiece& piece, const float* values) {
  if (piece.master.empty()) {
    for (int64_t begin = 0; begin < piece.count; begin += kRoundedElements) {
      const int64_t end = std::min(piece.count, begin + kRoundedElements);
      const Tensor wide = upload_new(backend, DType::f32, {end - begin}, values + begin);
      backend.convert(wide, piece.weight.slice_rows(begin, end));
    }
    return;
  }
  backend.upload(values, piece.master);
  if (piece.weight.bytes() != piece.master.bytes()) backend.convert(piece.master, piece.weight);
}

/// Sets masters, where there are any, and weights of every piece to what `fill` writes.
void fill_weights(
    Backend& backend, ParameterStore& store,
    const std::function<void(const ParameterPiece& piece, std::span<float> values)>& fill) {
  std::vector<float> values;
  store.for_each([&](const ParameterPiece& piece) {
    values.resize(static_cast<size_t>(piece.count));
    fill(piece, values);
    set_weights(backend, piece, values.data());
  });
  store.weights_changed();
}

}  // namespace

ResidentParameters::ResidentParameters(Backend& backend, const ModelConfig& config, DType dtype,
                                       StorePurpose purpose)
    : backend_(backend), config_(config), dtype_(dtype), groups_(parameter_groups(config)) {
  const auto zeros = [&](DType type, int64_t elements) {
    Tensor tensor = backend_.allocate(type, {elements});
    backend_.fill_zero(tensor);
    return tensor;
  };
  for (const ParameterGroup& group : groups_) {
    Buffers b;
    b.weights = zeros(group.dtype(dtype), group.elements);
    if (purpose == StorePurpose::training) {
      if (group.dtype(dtype) != DType::f32) b.masters = zeros(DType::f32, group.elements);
      b.gradients = zeros(DType::f32, group.elements);
      b.m = zeros(DType::f32, group.elements);
      b.v = zeros(DType::f32, group.elements);
    }
    buffers_.push_back(std::move(b));
  }
}

void ResidentParameters::zero_gradients() {
  for (Buffers& b : buffers_) backend_.fill_zero(b.gradients);
}

void ResidentParameters::for_each(const std::function<void(const ParameterPiece&)>& visit) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    Buffers& b = buffers_[g];
    for (const ParameterSpec& spec : groups_[g].tensors) {
      const int64_t n = spec.shape.elements();
      const View weight = part(b.weights, spec.offset, n);
      const View master =
          b.weights.dtype() == DType::f32 ? weight : part(b.masters, spec.offset, n);
      visit({spec, 0, n, weight, master, part(b.gradients, spec.offset, n),
             part(b.m, spec.offset, n), part(b.v, spec.offset, n)});
    }
  }
}

GradientNorms ResidentParameters::gradient_norms() {
  GradientNorms squares;
  for (size_t g = 0; g < groups_.size(); ++g) {
    double& sum = groups_[g].owner == ParameterOwner::model ? squares.model : squares.rotary;
    sum += backend_.sum_of_squares(buffers_[g].gradients);  // padding is zero
  }
  return {std::sqrt(squares.model), std::sqrt(squares.rotary)};
}

void ResidentParameters::update(const AdamWStep& step, float rotary_gradient_scale) {
  update_pieces(backend_, *this, step, rotary_gradient_scale);
}

void update_pieces(Backend& backend, ParameterStore& store, const AdamWStep& step,
                   float rotary_gradient_scale) {
  store.for_each([&](const ParameterPiece& piece) {
    AdamWStep own = step;
    if (piece.spec.decay == Decay::no) own.weight_decay = 0;
    if (piece.spec.owner == ParameterOwner::rotary_method)
      own.gradient_scale = rotary_gradient_scale;
    backend.adamw(own, piece.gradient, piece.master, piece.m, piece.v, piece.weight);
  });
}

double initial_deviation(const ParameterSpec& spec, const ModelConfig& config) {
  constexpr double kDeviation = 0.02;
  if (spec.initial != InitialValue::normal_residual) return kDeviation;
  return kDeviation / std::sqrt(2.0 * static_cast<double>(config.num_hidden_layers));
}

void initialise(Backend& backend, ParameterStore& store, uint64_t seed) {
  fill_weights(backend, store, [&](const ParameterPiece& piece, std::span<float> values) {
    draw_initial(piece, store.config(), seed, values);
  });
}

void load_weights(Backend& backend, ParameterStore& store, const TensorReader& read,
                  const TensorFinder& has, uint64_t seed) {
  fill_weights(backend, store, [&](const ParameterPiece& piece, std::span<float> values) {
    const bool may_miss = piece.spec.owner == ParameterOwner::rotary_method;
    if (may_miss && has && !has(piece.spec.name))
      return draw_initial(piece, store.config(), seed, values);
    read(piece.spec.name, piece.first, values);
  });
}

}  // namespace ringbolt
