#include "io/model_json.h"

#include "core/base/error.h"

namespace ringbolt {
namespace {

constexpr const char* kPairing = "ringbolt_rotary_pairing";

[[noreturn]] void refuse(const std::string& origin, const std::string& why) {
  throw IoError(
      message(concat("cannot use the model configuration in ", origin), why, "Check its members."));
}

/// Reads members, naming the one that is wrong.
class Members {
 private:
  bool missing(const char* name) const {
    return json_.find(name) == nullptr || json_.find(name)->is_null();
  }
  template <class Read>
  auto get(const char* name, const Read& read) const {
    try {
      return read(json_.at(name));
    } catch (const UsageError& error) {
      refuse(origin_, concat(name, ": ", error.what()));
    }
  }

 public:
  Members(const Json& json, const std::string& origin) : json_(json), origin_(origin) {
    if (!json.is_object()) refuse(origin, "it is not a JSON object");
  }
  int64_t integer(const char* name) const {
    if (missing(name)) refuse(origin_, concat(name, " is missing"));
    return get(name, [](const Json& v) { return v.as_integer(); });
  }
  int64_t integer(const char* name, int64_t otherwise) const {
    return missing(name) ? otherwise : integer(name);
  }
  double real(const char* name, double otherwise) const {
    return missing(name) ? otherwise : get(name, [](const Json& v) { return v.as_real(); });
  }
  bool flag(const char* name, bool otherwise) const {
    return missing(name) ? otherwise : get(name, [](const Json& v) { return v.as_bool(); });
  }
  std::string text(const char* name, const std::string& otherwise) const {
    return missing(name) ? otherwise : get(name, [](const Json& v) { return v.as_text(); });
  }
  /// The member, or nullptr where it is missing or null.
  const Json* find(const char* name) const { return missing(name) ? nullptr : json_.find(name); }

 private:
  const Json& json_;
  const std::string& origin_;
};

void read_rope(const Json& json, const std::string& origin, ModelConfig& c) {
  const Members rope(json, origin);
  // "type" in older files, "rope_type" in newer ones.
  const std::string type = rope.text("rope_type", rope.text("type", "default"));
  if (type == "linear") {
    c.rope_linear_factor = rope.real("factor", 1.0);
  } else if (type != "default") {
    refuse(origin, concat("rope_scaling of type '", type, "' is not supported"));
  }
  c.rope_theta = rope.real("rope_theta", c.rope_theta);
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
  Json scaling;
  if (c.rope_linear_factor != 1.0)
    scaling.set("type", "linear").set("factor", c.rope_linear_factor);
  json.set("rope_scaling", scaling)
      .set("tie_word_embeddings", c.tie_word_embeddings)
      .set(kPairing, c.rotary_pairing == RotaryPairing::interleaved ? "interleaved" : "half_split");
  return json;
}

ModelConfig model_from_json(const Json& json, const std::string& origin) {
  const Members m(json, origin);
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
  c.rope_theta = m.real("rope_theta", 10000.0);
  if (const Json* scaling = m.find("rope_scaling")) read_rope(*scaling, origin, c);
  if (const Json* rope = m.find("rope_parameters")) read_rope(*rope, origin, c);
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
