#include "parallel/sharded_parameters.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

namespace ringbolt {
namespace {

/// Pieces begin at cache lines, so that kernels see aligned vectors as they do in whole tensors.
constexpr int64_t kPieceElements = 16;

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

std::span<std::byte> bytes_of(View x) { return {x.bytes(), static_cast<size_t>(x.bytes_needed())}; }
std::span<float> floats_of(View x) { return {x.data<float>(), static_cast<size_t>(x.elements())}; }

View part(Tensor& flat, int64_t begin, int64_t end) {
  return flat.empty() ? View() : flat.view().slice_rows(begin, end);
}

}  // namespace

ShardedParameters::ShardedParameters(Backend& backend, Communicator& ranks,
                                     const ModelConfig& config, DType dtype, ShardState state)
    : backend_(backend),
      ranks_(ranks),
      config_(config),
      dtype_(dtype),
      state_(state),
      groups_(parameter_groups(config)) {
  const auto zeros = [&](DType type, int64_t elements) {
    Tensor tensor = backend_.allocate(type, {elements});
    backend_.fill_zero(tensor);
    return tensor;
  };
  const int64_t n = ranks.size();
  for (const ParameterGroup& group : groups_) {
    Shard s;
    s.piece = round_up((group.elements + n - 1) / n, kPieceElements);
    s.weights = zeros(group.dtype(dtype), s.piece * n);
    if (group.dtype(dtype) != DType::f32) s.masters = zeros(DType::f32, s.piece);
    if (state == ShardState::optimizer) s.gradients = zeros(DType::f32, s.piece * n);
    if (state == ShardState::gradients) s.gradient_piece = zeros(DType::f32, s.piece);
    s.m = zeros(DType::f32, s.piece);
    s.v = zeros(DType::f32, s.piece);
    shards_.push_back(std::move(s));
  }
}

ConstView ShardedParameters::weights(int64_t group) { return shard(group).weights; }

View ShardedParameters::gradients(int64_t group) {
  Shard& s = shard(group);
  if (s.gradients.empty()) {
    s.gradients = backend_.allocate(DType::f32, {s.piece * ranks_.size()});
    backend_.fill_zero(s.gradients);
    // What earlier micro-batches summed up is in one rank's summand of this one: their sum takes it
    // along.
    backend_.convert(s.gradient_piece, own(s, s.gradients));
  }
  return s.gradients;
}

void ShardedParameters::zero_gradients() {
  for (Shard& s : shards_)
    backend_.fill_zero(state_ == ShardState::optimizer ? s.gradients : s.gradient_piece);
}

void ShardedParameters::gradients_complete(int64_t group, MicroBatch which) {
  if (state_ == ShardState::optimizer && which == MicroBatch::more_follow) return;
  Shard& s = shard(group);
  ranks_.reduce_scatter(floats_of(s.gradients), floats_of(own_gradients(s)));
  if (state_ == ShardState::gradients) s.gradients = Tensor();
}

void ShardedParameters::for_each(const std::function<void(const ParameterPiece&)>& visit) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    Shard& s = shards_[g];
    const int64_t mine = begin(s);
    for (const ParameterSpec& spec : groups_[g].tensors) {
      const int64_t first = std::max(spec.offset, mine);
      const int64_t end = std::min(spec.offset + spec.shape.elements(), mine + s.piece);
      if (first >= end) continue;
      const View weight = part(s.weights, first, end);
      const View gradient = state_ == ShardState::optimizer
                                ? part(s.gradients, first, end)
                                : part(s.gradient_piece, first - mine, end - mine);
      const View master = s.masters.empty() ? weight : part(s.masters, first - mine, end - mine);
      visit({spec, first - spec.offset, end - first, weight, master, gradient,
             part(s.m, first - mine, end - mine), part(s.v, first - mine, end - mine)});
    }
  }
}

void ShardedParameters::weights_changed() {
  for (Shard& s : shards_) ranks_.all_gather(bytes_of(own(s, s.weights)), bytes_of(s.weights));
}

GradientNorms ShardedParameters::gradient_norms() {
  std::array<double, 2> squares{};  // of the model, and of a rotary method
  for (size_t g = 0; g < groups_.size(); ++g) {
    const bool is_model = groups_[g].owner == ParameterOwner::model;
    squares[is_model ? 0 : 1] +=
        backend_.sum_of_squares(own_gradients(shards_[g]));  // padding is zero
  }
  ranks_.all_reduce(std::span<double>(squares));
  return {std::sqrt(squares[0]), std::sqrt(squares[1])};
}

void ShardedParameters::update(const AdamWStep& step, float rotary_gradient_scale) {
  update_pieces(backend_, *this, step, rotary_gradient_scale);
  weights_changed();
}

}  // namespace ringbolt
