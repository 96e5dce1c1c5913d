// Typed views of a layer's flat buffer: the matrices that the block multiplies with, or their
// gradients.
#pragma once

#include <optional>

#include "core/model/config.h"
#include "core/tensor/tensor.h"

namespace ringbolt {

template <class AnyView>
struct LayerViews {
  AnyView wq;                      ///< (H D, E)
  AnyView wkv;                     ///< (2 K D, E): k above v
  AnyView wo;                      ///< (E, H D)
  AnyView w_gate_up;               ///< (2 F, E): gate above up
  AnyView w_down;                  ///< (E, F)
  AnyView attention_norm;          ///< (E)
  AnyView feed_forward_norm;       ///< (E)
  std::optional<AnyView> bq, bkv;  ///< (H D), (2 K D)
};

/// `flat` is the group's buffer of any kind; `group` describes it.
template <class AnyView>
LayerViews<AnyView> layer_views(const ModelConfig& c, const ParameterGroup& group, AnyView flat) {
  const int64_t e = c.hidden_size;
  const auto at = [&](size_t tensor, Shape shape) {
    const int64_t begin = group.tensors[tensor].offset;
    return flat.slice_rows(begin, begin + shape.elements()).reshape(shape);
  };
  // The order is that of parameter_groups(): q k v o gate up down norm norm [bq bk bv].
  LayerViews<AnyView> v{at(0, {c.query_width(), e}),
                        at(1, {2 * c.key_value_width(), e}),
                        at(3, {e, c.query_width()}),
                        at(4, {2 * c.intermediate_size, e}),
                        at(6, {e, c.intermediate_size}),
                        at(7, {e}),
                        at(8, {e}),
                        std::nullopt,
                        std::nullopt};
  if (c.qkv_bias) {
    v.bq = at(9, {c.query_width()});
    v.bkv = at(10, {2 * c.key_value_width()});
  }
  return v;
}

/// The only group views outside the layers.
template <class AnyView>
AnyView embedding_view(const ModelConfig& c, AnyView flat) {
  return flat.slice_rows(0, c.vocab_size * c.hidden_size).reshape({c.vocab_size, c.hidden_size});
}

template <class AnyView>
struct HeadViews {
  AnyView norm;   ///< (E)
  AnyView table;  ///< (V, E): the head's own, or the embedding's where they are tied
};

template <class AnyView>
HeadViews<AnyView> head_views(const ModelConfig& c, const ParameterGroup& group, AnyView flat,
                              AnyView embedding_flat) {
  const AnyView norm = flat.slice_rows(0, c.hidden_size);
  if (c.tie_word_embeddings) return {norm, embedding_view(c, embedding_flat)};
  const int64_t begin = group.tensors[1].offset;
  return {norm, flat.slice_rows(begin, begin + c.vocab_size * c.hidden_size)
                    .reshape({c.vocab_size, c.hidden_size})};
}

}  // namespace ringbolt
