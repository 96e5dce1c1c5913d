#include "io/model_json.h"

#include "core/base/error.h"
#include "io/json_members.h"
#include "io/rope_json.h"

namespace ringbolt {
namespace {

constexpr const char* kPairing = "ringbolt_rotary_pairing";

[[noreturn]] void refuse(const std::string& origin, const std::string& why) {
  refuse_configuration(origin, why);
}

/// rope_scaling, rope_parameters, and what stands beside them in older files.
void read_rotary(const JsonMembers& m, const std::string& origin, ModelConfig& c) {
  c.rope_theta = m.real("rope_theta", 10000.0);
  c.rope_scaling.partial_rotary_factor = m.real("partial_rotary_factor", 1.0);
  const Json* scaling = m.find("rope_scaling");
  const Json* parameters = m.find("rope_parameters");
  // LongRoPE models have it beside rope_scaling; others that have it mean the same.
  if (scaling != nullptr || parameters != nullptr)
    c.rope_scaling.original_length = m.integer("original_max_position_embeddings", 0);
  if (scaling != nullptr) read_rope(*scaling, origin, c);
  if (parameters != nullptr) read_rope(*parameters, origin, c);
}

}  // namespace

Json to_json(const ModelConfig& c) {
  Json json;
  json.set("model_type", c.qkv_bias ? "qwen2" : "llama")
      .set("vocab_size", c.vocab_size)
      .set("hidden_size", c.hidden_size)
      .set("intermediate_size", c.intermediate_size)
      .set("num_hidden_layers", c.num_hidden_layers)
      .set("num_attention_heads", c.num_attention_heads)
      .set("num_key_value_heads", c.num_key_value_heads)
      .set("head_dim", c.head_dim)
      .set("max_position_embeddings", c.max_position_embeddings)
      .set("hidden_act", "silu")
      .set("rms_norm_eps", c.rms_norm_eps)
      .set("rope_theta", c.rope_theta);
  if (c.rope_scaling.partial_rotary_factor != 1.0)
    json.set("partial_rotary_factor", c.rope_scaling.partial_rotary_factor);
  json.set("rope_scaling", rope_scaling_json(c))
      .set("tie_word_embeddings", c.tie_word_embeddings)
      .set(kPairing, c.rotary_pairing == RotaryPairing::interleaved ? "interleaved" : "half_split");
  return json;
}

ModelConfig model_from_json(const Json& json, const std::string& origin) {
  const JsonMembers m(json, origin);
  const std::string kind = m.text("model_type", "llama");
  if (kind != "llama" && kind != "mistral" && kind != "qwen2") {
    refuse(origin, concat("the model_type '", kind, "' is none of llama, mistral, qwen2"));
  }
  if (m.flag("attention_bias", false))
    refuse(origin, "attention_bias (a bias on o_proj, too) is not supported");
  if (const std::string act = m.text("hidden_act", "silu"); act != "silu") {
    refuse(origin, concat("hidden_act is '", act, "', not silu"));
  }
  ModelConfig c;
  c.vocab_size = m.integer("vocab_size");
  c.hidden_size = m.integer("hidden_size");
  c.intermediate_size = m.integer("intermediate_size");
  c.num_hidden_layers = m.integer("num_hidden_layers");
  c.num_attention_heads = m.integer("num_attention_heads");
  c.num_key_value_heads = m.integer("num_key_value_heads", c.num_attention_heads);
  if (c.num_attention_heads < 1)
    refuse(origin, concat("num_attention_heads is ", c.num_attention_heads));
  c.head_dim = m.integer("head_dim", c.hidden_size / c.num_attention_heads);
  c.max_position_embeddings = m.integer("max_position_embeddings", 2048);
  c.rms_norm_eps = m.real("rms_norm_eps", 1e-6);
  read_rotary(m, origin, c);
  c.tie_word_embeddings = m.flag("tie_word_embeddings", false);
  c.qkv_bias = kind == "qwen2";
  const std::string pairing = m.text(kPairing, "half_split");
  if (pairing != "half_split" && pairing != "interleaved") {
    refuse(origin, concat(kPairing, " is '", pairing, "', neither half_split nor interleaved"));
  }
  c.rotary_pairing =
      pairing == "interleaved" ? RotaryPairing::interleaved : RotaryPairing::half_split;
  try {
    validate(c);
  } catch (const UsageError& error) {
    refuse(origin, error.what());
  }
  return c;
}

}  // namespace ringbolt
