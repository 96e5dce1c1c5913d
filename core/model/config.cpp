#include "core/model/config.h"

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "core/base/error.h"

namespace ringbolt {
namespace {

struct NamedShape {
  const char* name;
  ModelConfig config;
};

ModelConfig shape(int64_t vocab, int64_t hidden, int64_t ffn, int64_t layers, int64_t heads,
                  int64_t kv_heads, int64_t length) {
  ModelConfig c;
  c.vocab_size = vocab;
  c.hidden_size = hidden;
  c.intermediate_size = ffn;
  c.num_hidden_layers = layers;
  c.num_attention_heads = heads;
  c.num_key_value_heads = kv_heads;
  c.head_dim = hidden / heads;
  c.max_position_embeddings = length;
  return c;
}

const std::vector<NamedShape>& named_shapes() {
  static const std::vector<NamedShape> shapes = {
      {"tiny", shape(259, 64, 192, 2, 4, 2, 128)},
      {"260k", shape(512, 64, 172, 5, 8, 4, 512)},
      {"1m", shape(259, 128, 352, 5, 8, 4, 256)},
      {"15m", shape(32000, 288, 768, 6, 6, 6, 256)},
      {"30m", shape(32000, 512, 1376, 8, 8, 8, 2048)},
      {"110m", shape(32000, 768, 2048, 12, 12, 12, 1024)},
      {"tinyllama-1.1b", shape(32000, 2048, 5632, 22, 32, 4, 2048)},
      {"llama2-7b", shape(32000, 4096, 11008, 32, 32, 32, 4096)},
      {"llama2-13b", shape(32000, 5120, 13824, 40, 40, 40, 4096)},
  };
  return shapes;
}

[[noreturn]] void bad_shape(const std::string& text, const std::string& why) {
  std::string names;
  for (const std::string& name : model_shape_names()) names += (names.empty() ? "" : ", ") + name;
  throw UsageError(message(
      concat("cannot read the model shape '", text, "'"), why,
      concat("Name one of ", names, ", or spell it out: dim=64,layers=2,heads=4,vocab=259.")));
}

int64_t positive(const std::string& text, const std::string& key, const std::string& value) {
  int64_t n = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
  if (error != std::errc() || end != value.data() + value.size() || n <= 0) {
    bad_shape(text, concat(key, " is not a positive number: '", value, "'"));
  }
  return n;
}

/// An item without "=": a named shape, or a property that is on.
void set_word(ModelConfig& c, const std::string& text, const std::string& word) {
  if (word == "tied") return void(c.tie_word_embeddings = true);
  if (word == "qkv-bias") return void(c.qkv_bias = true);
  for (const NamedShape& named : named_shapes()) {
    if (word == named.name) return void(c = named.config);
  }
  bad_shape(text, concat("'", word, "' is no known shape"));
}

void set_item(ModelConfig& c, const std::string& text, const std::string& key,
              const std::string& value) {
  if (key == "norm-eps") {
    const auto [end, error] =
        std::from_chars(value.data(), value.data() + value.size(), c.rms_norm_eps);
    if (error == std::errc() && end == value.data() + value.size()) return;
    bad_shape(text, concat("norm-eps is not a number: '", value, "'"));
  }
  const int64_t n = positive(text, key, value);
  if (key == "dim") return void(c.hidden_size = n);
  if (key == "ffn") return void(c.intermediate_size = n);
  if (key == "layers") return void(c.num_hidden_layers = n);
  if (key == "heads") return void(c.num_attention_heads = n);
  if (key == "kv-heads") return void(c.num_key_value_heads = n);
  if (key == "head-dim") return void(c.head_dim = n);
  if (key == "vocab") return void(c.vocab_size = n);
  bad_shape(text, concat("unknown key '", key,
                         "'; known are dim, ffn, layers, heads, kv-heads, head-dim, vocab, "
                         "norm-eps, tied, qkv-bias"));
}

void require(bool condition, const std::string& problem, const std::string& why,
             const std::string& what_to_try) {
  if (!condition) throw UsageError(message(problem, why, what_to_try));
}

/// Lays tensors one behind the other.
class GroupBuilder {
 public:
  explicit GroupBuilder(std::string name) { group_.name = std::move(name); }
  /// At the next multiple of 64 elements, which suits every vector and matrix unit.
  GroupBuilder& add(std::string name, Shape tensor, Decay decay, InitialValue initial) {
    group_.elements = (group_.elements + kAlignment - 1) / kAlignment * kAlignment;
    return adjoin(std::move(name), tensor, decay, initial);
  }
  /// Right behind the one before, to be one matrix with it.
  GroupBuilder& adjoin(std::string name, Shape tensor, Decay decay, InitialValue initial) {
    group_.tensors.push_back({std::move(name), tensor, decay, initial, group_.elements});
    group_.elements += tensor.elements();
    return *this;
  }
  /// All tensors that were added are a rotary method's.
  GroupBuilder& of_a_rotary_method() {
    group_.owner = ParameterOwner::rotary_method;
    for (ParameterSpec& spec : group_.tensors) spec.owner = group_.owner;
    return *this;
  }
  ParameterGroup take() { return std::move(group_); }

 private:
  static constexpr int64_t kAlignment = 64;
  ParameterGroup group_;
};

ParameterGroup layer_group(const ModelConfig& c, int64_t layer) {
  const std::string prefix = concat("model.layers.", layer);
  const int64_t e = c.hidden_size;
  GroupBuilder g(concat("layer ", layer));
  g.add(prefix + ".self_attn.q_proj.weight", {c.query_width(), e}, Decay::yes, InitialValue::normal)
      .add(prefix + ".self_attn.k_proj.weight", {c.key_value_width(), e}, Decay::yes,
           InitialValue::normal)
      .adjoin(prefix + ".self_attn.v_proj.weight", {c.key_value_width(), e}, Decay::yes,
              InitialValue::normal)
      .add(prefix + ".self_attn.o_proj.weight", {e, c.query_width()}, Decay::yes,
           InitialValue::normal_residual)
      .add(prefix + ".mlp.gate_proj.weight", {c.intermediate_size, e}, Decay::yes,
           InitialValue::normal)
      .adjoin(prefix + ".mlp.up_proj.weight", {c.intermediate_size, e}, Decay::yes,
              InitialValue::normal)
      .add(prefix + ".mlp.down_proj.weight", {e, c.intermediate_size}, Decay::yes,
           InitialValue::normal_residual)
      .add(prefix + ".input_layernorm.weight", {e}, Decay::no, InitialValue::one)
      .add(prefix + ".post_attention_layernorm.weight", {e}, Decay::no, InitialValue::one);
  if (c.qkv_bias) {
    g.add(prefix + ".self_attn.q_proj.bias", {c.query_width()}, Decay::no, InitialValue::zero)
        .add(prefix + ".self_attn.k_proj.bias", {c.key_value_width()}, Decay::no,
             InitialValue::zero)
        .adjoin(prefix + ".self_attn.v_proj.bias", {c.key_value_width()}, Decay::no,
                InitialValue::zero);
  }
  return g.take();
}

/// CLEX's network, by the names of its released checkpoints (DAMO-NLP-SG/CLEX).
ParameterGroup clex_group(const ModelConfig& c) {
  const int64_t dim = rotary_dimension(c.rope_scaling, c.head_dim);
  const int64_t hidden = c.rope_scaling.param_factor * dim;
  const std::string prefix = "model.clex_layer.proj_func.";
  return GroupBuilder("rotary")
      .add(prefix + "ode_up_proj", {dim / 2, hidden}, Decay::no, InitialValue::uniform_by_width)
      .add(prefix + "ode_down_proj", {hidden, dim / 2}, Decay::no, InitialValue::zero)
      .of_a_rotary_method()
      .take();
}

}  // namespace

int64_t ModelConfig::parameter_count() const {
  int64_t count = 0;
  for (const ParameterGroup& group : parameter_groups(*this)) {
    for (const ParameterSpec& tensor : group.tensors) count += tensor.shape.elements();
  }
  return count;
}

void validate(const ModelConfig& c) {
  const std::array<std::pair<const char*, int64_t>, 8> sizes{
      {{"vocab_size", c.vocab_size},
       {"hidden_size", c.hidden_size},
       {"intermediate_size", c.intermediate_size},
       {"num_hidden_layers", c.num_hidden_layers},
       {"num_attention_heads", c.num_attention_heads},
       {"num_key_value_heads", c.num_key_value_heads},
       {"head_dim", c.head_dim},
       {"max_position_embeddings", c.max_position_embeddings}}};
  for (const auto& [name, value] : sizes) {
    require(value > 0, concat("the model's ", name, " is ", value), "every size must be positive",
            "Check the model shape or the checkpoint's configuration.");
  }
  require(c.num_attention_heads % c.num_key_value_heads == 0,
          concat(c.num_attention_heads, " attention heads cannot share ", c.num_key_value_heads,
                 " key/value heads"),
          "each key/value head serves the same number of query heads",
          "Choose kv-heads that divides heads.");
  require(c.head_dim % 2 == 0, concat("the head dimension ", c.head_dim, " is odd"),
          "rotary embedding turns pairs", "Choose an even head-dim.");
  require(c.head_dim <= 256, concat("the head dimension ", c.head_dim, " is above 256"),
          "the attention kernels hold a row of at most 256",
          "Choose more heads or a smaller head-dim.");
  require(c.rms_norm_eps > 0 && std::isfinite(c.rms_norm_eps),
          concat("rms_norm_eps is ", c.rms_norm_eps),
          "it keeps a row of zeros from dividing by zero", "Use 1e-5 or 1e-6.");
  require(c.rope_theta > 1 && std::isfinite(c.rope_theta),
          concat("the rotary base is ", c.rope_theta), "periods must grow from pair to pair",
          "Choose a base above 1, for example 10000.");
  validate(c.rope_scaling, c.head_dim);
}

std::vector<std::string> model_shape_names() {
  std::vector<std::string> names;
  for (const NamedShape& named : named_shapes()) names.emplace_back(named.name);
  return names;
}

ModelConfig model_shape(const std::string& text) {
  ModelConfig c;
  c.vocab_size = 259;
  c.max_position_embeddings = 256;
  std::istringstream items(text);
  for (std::string item; std::getline(items, item, ',');) {
    const size_t equals = item.find('=');
    if (equals == std::string::npos) {
      set_word(c, text, item);
    } else {
      set_item(c, text, item.substr(0, equals), item.substr(equals + 1));
    }
  }
  if (c.num_attention_heads == 0) bad_shape(text, "heads is missing");
  if (c.num_key_value_heads == 0) c.num_key_value_heads = c.num_attention_heads;
  if (c.head_dim == 0) c.head_dim = c.hidden_size / c.num_attention_heads;
  // LLaMA's rule: 2/3 of 4 E, rounded up to a multiple of 32.
  if (c.intermediate_size == 0) c.intermediate_size = (c.hidden_size * 8 / 3 + 31) / 32 * 32;
  validate(c);
  return c;
}

std::vector<ParameterGroup> parameter_groups(const ModelConfig& c) {
  std::vector<ParameterGroup> groups;
  const Shape table{c.vocab_size, c.hidden_size};
  groups.push_back(GroupBuilder("embedding")
                       .add("model.embed_tokens.weight", table, Decay::yes, InitialValue::normal)
                       .take());
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer)
    groups.push_back(layer_group(c, layer));
  GroupBuilder head("head");
  head.add("model.norm.weight", {c.hidden_size}, Decay::no, InitialValue::one);
  if (!c.tie_word_embeddings) head.add("lm_head.weight", table, Decay::yes, InitialValue::normal);
  groups.push_back(head.take());
  if (c.rope_scaling.method == RopeMethod::clex) groups.push_back(clex_group(c));
  return groups;
}

}  // namespace ringbolt
