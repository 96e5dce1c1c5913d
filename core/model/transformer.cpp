#include "core/model/transformer.h"

#include "core/base/error.h"

namespace ringbolt {
namespace {

Tensor upload_ids(Backend& backend, std::span<const int32_t> ids) {
  return upload_new(backend, DType::i32, {static_cast<int64_t>(ids.size())}, ids.data());
}

LossSum sum_of(const HostLosses& host, std::span<const int32_t> targets) {
  LossSum sum;
  for (size_t t = 0; t < targets.size(); ++t) {
    if (targets[t] < 0) continue;
    sum.loss += static_cast<double>(host.losses[t]);
    sum.hits += host.hits[t];
    ++sum.tokens;
  }
  return sum;
}

HostLosses on_host(Backend& backend, const TokenLosses& losses) {
  HostLosses host{download_f32(backend, losses.losses),
                  std::vector<int32_t>(static_cast<size_t>(losses.hits.shape().elements()))};
  backend.download(losses.hits, host.hits.data());
  return host;
}

}  // namespace

Transformer::Transformer(Backend& backend, ParameterStore& parameters, int64_t piece_tokens)
    : backend_(backend),
      parameters_(parameters),
      groups_(parameter_groups(parameters.config())),
      block_(backend, parameters.config(), piece_tokens),
      head_(backend, parameters.config(), piece_tokens) {}

LossSum Transformer::train(std::span<const int32_t> ids, std::span<const int32_t> targets,
                           const RotaryTable& rotary, Attention& attention, Recompute policy,
                           float scale, MicroBatch which) {
  check_ids(ids);
  const auto tokens = static_cast<int64_t>(ids.size());
  MicroBatchTensors own;
  MicroBatchTensors& tensors = recorded_ ? repeated_ : own;
  if (tensors.ids.empty() || tensors.ids.shape()[0] != tokens) tensors = allocate(tokens);
  backend_.upload(ids.data(), tensors.ids);
  backend_.upload(targets.data(), tensors.targets);
  if (recorded_) {
    const RotaryTable& table = repeated(rotary);
    recorded_->run(key_of(tokens, rotary, attention, policy, scale), which,
                   [&] { forward_backward(tensors, table, attention, policy, scale, which); });
    if (!rotary.dangles.empty()) backend_.add(table.dangles, rotary.dangles);
  } else {
    forward_backward(tensors, rotary, attention, policy, scale, which);
  }
  return sum_of(on_host(backend_, tensors.losses), targets);
}

void Transformer::record_micro_batches() {
  Recorder* recorder = backend_.recorder();
  if (recorder == nullptr) {
    throw UsageError(message("micro-batches cannot be recorded",
                             concat("the device is ", backend_.name()),
                             "Use --device cuda, or leave --cuda-graph out."));
  }
  recorded_.emplace(*recorder);
}

const RotaryTable& Transformer::repeated(const RotaryTable& rotary) {
  const auto room_for = [&](ConstView from, Tensor& to) {
    if (from.empty()) {
      to = Tensor();
    } else if (to.empty() || to.shape() != from.shape()) {
      to = backend_.allocate(from.dtype(), from.shape());
    }
  };
  const auto copy = [&](ConstView from, Tensor& to) {
    room_for(from, to);
    if (!from.empty()) backend_.convert(from, to);
  };
  RotaryTable& table = repeated_table_;
  copy(rotary.cos, table.cos);
  copy(rotary.sin, table.sin);
  if (!rotary.query_scale) {
    table.query_scale.reset();
  } else {
    if (!table.query_scale) table.query_scale.emplace();
    copy(*rotary.query_scale, *table.query_scale);
  }
  room_for(rotary.dangles, repeated_dangles_);
  table.dangles = repeated_dangles_;
  if (!rotary.dangles.empty()) backend_.fill_zero(table.dangles);
  table.rotated_by = rotary.rotated_by;
  return table;
}

Transformer::MicroBatchTensors Transformer::allocate(int64_t tokens) const {
  return {backend_.allocate(DType::i32, {tokens}), backend_.allocate(DType::i32, {tokens}),
          head_.allocate_losses(tokens)};
}

void Transformer::forward_backward(MicroBatchTensors& tensors, const RotaryTable& rotary,
                                   Attention& attention, Recompute policy, float scale,
                                   MicroBatch which) {
  const int64_t layers = config().num_hidden_layers;
  const int64_t head_group = layers + 1;
  Tensor x = embed(tensors.ids);
  std::vector<BlockActivations> kept(static_cast<size_t>(layers));
  for (int64_t l = 0; l < layers; ++l) {
    kept[static_cast<size_t>(l)] =
        block_.forward_keeping(l, weights(l), rotary, attention, policy, x);
  }

  // A tied head adds to the embedding's gradients, which are complete only at the very end.
  const auto head_gradients = head_views(
      config(), groups_[static_cast<size_t>(head_group)], parameters_.gradients(head_group),
      config().tie_word_embeddings ? parameters_.gradients(0) : View());
  head_.losses_backward(head_weights(), head_gradients, tensors.targets, scale, x, tensors.losses);
  parameters_.gradients_complete(head_group, which);

  for (int64_t l = layers - 1; l >= 0; --l) {
    const auto gradients =
        layer_views(config(), groups_[static_cast<size_t>(l + 1)], parameters_.gradients(l + 1));
    block_.backward(l, weights(l), gradients, rotary, attention,
                    std::move(kept[static_cast<size_t>(l)]), x);
    parameters_.gradients_complete(l + 1, which);
  }
  backend_.embedding_backward(x, tensors.ids, embedding_view(config(), parameters_.gradients(0)));
  parameters_.gradients_complete(0, which);
}

HostLosses Transformer::evaluate(std::span<const int32_t> ids, std::span<const int32_t> targets,
                                 const RotaryTable& rotary, Attention& attention,
                                 const LayerProgress& progress) {
  const Tensor x = forward(ids, rotary, attention, progress);
  return on_host(backend_, head_.losses(head_weights(), x, upload_ids(backend_, targets)));
}

std::vector<float> Transformer::next_logits(std::span<const int32_t> ids, const RotaryTable& rotary,
                                            Attention& attention) {
  const Tensor x = forward(ids, rotary, attention, {});
  Tensor logits = backend_.allocate(DType::f32, {1, config().vocab_size});
  head_.logits(head_weights(), x.view().slice_rows(x.view().rows() - 1, x.view().rows()), logits);
  return download_f32(backend_, logits);
}

Tensor Transformer::forward(std::span<const int32_t> ids, const RotaryTable& rotary,
                            Attention& attention, const LayerProgress& progress) {
  check_ids(ids);
  Tensor x = embed(upload_ids(backend_, ids));
  for (int64_t l = 0; l < config().num_hidden_layers; ++l) {
    block_.forward(l, weights(l), rotary, attention, x);
    if (progress) progress(l + 1);
  }
  return x;
}

Tensor Transformer::embed(const Tensor& ids) {
  Tensor x = backend_.allocate(parameters_.dtype(), {ids.shape()[0], config().hidden_size});
  backend_.embedding_forward(embedding_view(config(), parameters_.weights(0)), ids, x);
  return x;
}

LayerViews<ConstView> Transformer::weights(int64_t layer) {
  return layer_views(config(), groups_[static_cast<size_t>(layer + 1)],
                     parameters_.weights(layer + 1));
}

HeadViews<ConstView> Transformer::head_weights() {
  const int64_t group = config().num_hidden_layers + 1;
  return head_views(config(), groups_[static_cast<size_t>(group)], parameters_.weights(group),
                    config().tie_word_embeddings ? parameters_.weights(0) : ConstView());
}

void Transformer::check_ids(std::span<const int32_t> ids) const {
  for (size_t t = 0; t < ids.size(); ++t) {
    if (ids[t] >= 0 && ids[t] < config().vocab_size) continue;
    throw UsageError(
        message(concat("token ", ids[t], " at position ", t, " is outside the model's vocabulary"),
                concat("it has ", config().vocab_size, " entries"),
                "Tokenize the text with the tokenizer that the model was trained with."));
  }
}

}  // namespace ringbolt
