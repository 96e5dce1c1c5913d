#include "tests/support/reference/model.h"

#include <cmath>
#include <utility>

#include "tests/support/reference/attention.h"
#include "tests/support/reference/linear.h"
#include "tests/support/reference/rotary.h"

namespace ringbolt::reference {
namespace {

/// Everything one layer's backward needs: all of it.
struct LayerActivations {
  Values input;    ///< (T, E)
  Values normed;   ///< (T, E)
  Values q, k, v;  ///< (T, H, D), (T, K, D), (T, K, D); q and k rotated
  Values mixed;    ///< (T, H, D), attention's output
  Values middle;   ///< (T, E), after the attention's residual
  Values ffn_in;   ///< (T, E)
  Values gate_up;  ///< (T, 2F)
  Values ffn_mid;  ///< (T, F)
};

class Model {
 public:
  Model(const ModelConfig& config, const Parameters& parameters, const Batch& batch)
      : c_(config),
        parameters_(parameters),
        batch_(batch),
        tokens_(static_cast<int64_t>(batch.ids.size())),
        table_(table_of(config, batch)),
        dangles_(zeros(tokens_ * c_.head_dim / 2)),
        shape_{tokens_, tokens_, c_.num_attention_heads, c_.num_key_value_heads, c_.head_dim},
        scale_(1.0 / std::sqrt(static_cast<double>(c_.head_dim))) {}

  ModelResult forward() {
    Values x = embedding_forward(weight("model.embed_tokens.weight"), batch_.ids, c_.hidden_size);
    for (int64_t layer = 0; layer < c_.num_hidden_layers; ++layer)
      x = layer_forward(layer, std::move(x));
    last_hidden_ = std::move(x);
    final_normed_ = norm("model.norm.weight", last_hidden_);
    ModelResult result;
    result.logits = linear_forward(final_normed_, weight(head_name()), {}, tokens_, c_.hidden_size,
                                   c_.vocab_size);
    const CrossEntropy counting = cross_entropy(result.logits, batch_.targets, 1.0, c_.vocab_size);
    const double counted = static_cast<double>(counting.counted);
    result.tokens = cross_entropy(result.logits, batch_.targets, 1.0 / counted, c_.vocab_size);
    result.loss = result.tokens.total / counted;
    return result;
  }

  void backward(ModelResult& result) {
    const Values& dlogits = result.tokens.gradient;
    const LinearGradients head = linear_backward(dlogits, final_normed_, weight(head_name()),
                                                 tokens_, c_.hidden_size, c_.vocab_size);
    add(head_name(), head.dweight);
    Values dx = norm_backward("model.norm.weight", head.dx, last_hidden_);
    for (int64_t layer = c_.num_hidden_layers - 1; layer >= 0; --layer)
      dx = layer_backward(layer, dx);
    add("model.embed_tokens.weight",
        embedding_backward(dx, batch_.ids, c_.vocab_size, c_.hidden_size));
    result.gradients = std::move(gradients_);
    result.dangles = std::move(dangles_);
  }

 private:
  Values layer_forward(int64_t layer, Values input) {
    const std::string p = concat("model.layers.", layer, ".");
    const int64_t e = c_.hidden_size;
    const int64_t f = c_.intermediate_size;
    LayerActivations a;
    a.input = std::move(input);
    a.normed = norm(p + "input_layernorm.weight", a.input);
    a.q = rotated(project(p + "self_attn.q_proj", a.normed, e, c_.query_width()),
                  c_.num_attention_heads, RotaryDirection::forward);
    a.k = rotated(project(p + "self_attn.k_proj", a.normed, e, c_.key_value_width()),
                  c_.num_key_value_heads, RotaryDirection::forward);
    a.v = project(p + "self_attn.v_proj", a.normed, e, c_.key_value_width());
    a.mixed = attention_forward(batch_.slices, a.q, a.k, a.v, scale_, shape_).out;
    a.middle = sum(a.input, project(p + "self_attn.o_proj", a.mixed, c_.query_width(), e));
    a.ffn_in = norm(p + "post_attention_layernorm.weight", a.middle);
    a.gate_up = side_by_side(project(p + "mlp.gate_proj", a.ffn_in, e, f),
                             project(p + "mlp.up_proj", a.ffn_in, e, f), f);
    a.ffn_mid = swiglu_forward(a.gate_up, tokens_, f);
    Values output = sum(a.middle, project(p + "mlp.down_proj", a.ffn_mid, f, e));
    layers_.push_back(std::move(a));
    return output;
  }

  Values layer_backward(int64_t layer, const Values& dy) {
    const std::string p = concat("model.layers.", layer, ".");
    const LayerActivations& a = layers_[static_cast<size_t>(layer)];
    const int64_t e = c_.hidden_size;
    const int64_t f = c_.intermediate_size;

    const Values dffn_mid = project_backward(p + "mlp.down_proj", dy, a.ffn_mid, f, e);
    const Values dgate_up = swiglu_backward(dffn_mid, a.gate_up, tokens_, f);
    const auto [dgate, dup] = halves(dgate_up, f);
    const Values dffn_in = sum(project_backward(p + "mlp.gate_proj", dgate, a.ffn_in, e, f),
                               project_backward(p + "mlp.up_proj", dup, a.ffn_in, e, f));
    const Values dmiddle =
        sum(dy, norm_backward(p + "post_attention_layernorm.weight", dffn_in, a.middle));

    const Values dmixed =
        project_backward(p + "self_attn.o_proj", dmiddle, a.mixed, c_.query_width(), e);
    const AttentionGradients g =
        attention_backward(batch_.slices, a.q, a.k, a.v, dmixed, scale_, shape_);
    add_angles(a.q, g.dq, c_.num_attention_heads);
    add_angles(a.k, g.dk, c_.num_key_value_heads);
    const Values dq = rotated(g.dq, c_.num_attention_heads, RotaryDirection::backward);
    const Values dk = rotated(g.dk, c_.num_key_value_heads, RotaryDirection::backward);
    Values dnormed = project_backward(p + "self_attn.q_proj", dq, a.normed, e, c_.query_width());
    dnormed = sum(dnormed,
                  project_backward(p + "self_attn.k_proj", dk, a.normed, e, c_.key_value_width()));
    dnormed = sum(
        dnormed, project_backward(p + "self_attn.v_proj", g.dv, a.normed, e, c_.key_value_width()));
    return sum(dmiddle, norm_backward(p + "input_layernorm.weight", dnormed, a.input));
  }

  const Values& weight(const std::string& name) const { return parameters_.at(name); }
  std::string head_name() const {
    return c_.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
  }

  void add(const std::string& name, const Values& gradient) {
    Values& total = gradients_[name];
    total = total.empty() ? gradient : sum(total, gradient);
  }

  Values norm(const std::string& name, const Values& x) const {
    return rms_norm_forward(x, weight(name), c_.rms_norm_eps, tokens_, c_.hidden_size).y;
  }
  Values norm_backward(const std::string& name, const Values& dy, const Values& x) {
    RmsNormGradients g =
        rms_norm_backward(dy, x, weight(name), c_.rms_norm_eps, tokens_, c_.hidden_size);
    add(name, g.dweight);
    return std::move(g.dx);
  }

  Values project(const std::string& name, const Values& x, int64_t in, int64_t out) const {
    const auto bias = parameters_.find(name + ".bias");
    return linear_forward(x, weight(name + ".weight"),
                          bias == parameters_.end() ? Values{} : bias->second, tokens_, in, out);
  }
  Values project_backward(const std::string& name, const Values& dy, const Values& x, int64_t in,
                          int64_t out) {
    LinearGradients g = linear_backward(dy, x, weight(name + ".weight"), tokens_, in, out);
    add(name + ".weight", g.dweight);
    if (parameters_.contains(name + ".bias")) add(name + ".bias", g.dbias);
    return std::move(g.dx);
  }

  Values rotated(const Values& x, int64_t heads, RotaryDirection direction) const {
    return rotary(x, table_, {}, c_.rotary_pairing, direction, tokens_, heads, c_.head_dim,
                  c_.head_dim);
  }

  void add_angles(const Values& x, const Values& dx, int64_t heads) {
    dangles_ = sum(dangles_, rotary_angle_backward(x, dx, c_.rotary_pairing, tokens_, heads,
                                                   c_.head_dim, c_.head_dim));
  }
  static RotaryTable table_of(const ModelConfig& c, const Batch& batch) {
    if (batch.angles.empty())
      return rotary_table(batch.positions, c.head_dim, c.rope_theta, c.rope_scaling.factor);
    RotaryTable table;
    for (const double angle : batch.angles) {
      table.cos.push_back(std::cos(angle));
      table.sin.push_back(std::sin(angle));
    }
    return table;
  }

  /// (T, 2F) of two (T, F).
  static Values side_by_side(const Values& a, const Values& b, int64_t width) {
    Values both;
    for (int64_t t = 0; t < static_cast<int64_t>(a.size()) / width; ++t) {
      both.insert(both.end(), row(a, t, width), row(a, t, width) + width);
      both.insert(both.end(), row(b, t, width), row(b, t, width) + width);
    }
    return both;
  }
  static std::pair<Values, Values> halves(const Values& both, int64_t width) {
    std::pair<Values, Values> result;
    for (int64_t t = 0; t < static_cast<int64_t>(both.size()) / (2 * width); ++t) {
      const double* left = row(both, t, 2 * width);
      result.first.insert(result.first.end(), left, left + width);
      result.second.insert(result.second.end(), left + width, left + 2 * width);
    }
    return result;
  }

  const ModelConfig& c_;
  const Parameters& parameters_;
  const Batch& batch_;
  int64_t tokens_;
  RotaryTable table_;
  Values dangles_;  ///< (T, D/2)
  AttentionShape shape_;
  double scale_;
  std::vector<LayerActivations> layers_;
  Values last_hidden_;   ///< (T, E)
  Values final_normed_;  ///< (T, E)
  Parameters gradients_;
};

}  // namespace

Batch causal_batch(std::vector<int32_t> ids) {
  Batch batch;
  batch.ids = std::move(ids);
  const auto tokens = static_cast<int64_t>(batch.ids.size());
  batch.targets.assign(batch.ids.begin() + (tokens > 0 ? 1 : 0), batch.ids.end());
  batch.targets.resize(batch.ids.size(), -1);
  for (int64_t t = 0; t < tokens; ++t) batch.positions.push_back(t);
  batch.slices = {{0, tokens, 0, tokens, AttentionSlice::Mask::causal, 0}};
  return batch;
}

ModelResult model_forward(const ModelConfig& config, const Parameters& parameters,
                          const Batch& batch) {
  return Model(config, parameters, batch).forward();
}

ModelResult model_forward_backward(const ModelConfig& config, const Parameters& parameters,
                                   const Batch& batch) {
  Model model(config, parameters, batch);
  ModelResult result = model.forward();
  model.backward(result);
  return result;
}

}  // namespace ringbolt::reference
