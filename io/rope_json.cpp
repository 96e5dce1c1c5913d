#include "io/rope_json.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/base/nearest.h"
#include "io/json_members.h"

namespace ringbolt {
namespace {

constexpr const char* kOriginal = "original_max_position_embeddings";

const std::vector<std::string>& known_members() {
  static const std::vector<std::string> names{
      "rope_type", "type", "factor", kOriginal, "attention_factor", "beta_fast", "beta_slow",
      "truncate", "mscale", "mscale_all_dim", "low_freq_factor", "high_freq_factor", "short_factor",
      "long_factor", "rope_theta", "partial_rotary_factor",
      // CLEX's released configurations:
      "max_factor", "param_factor", "act", "time_dt",
      // written by some trainers, without a meaning to the method:
      "finetuned",
      // ours:
      "ramp", "interpolated_dimensions", "window", "group", "resonance", "rotated_share",
      "rotated_pairs", "log_scale"};
  return names;
}

void refuse_unknown_members(const Json& json, const std::string& origin) {
  for (const auto& [name, value] : json.members()) {
    const auto& known = known_members();
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    if (value.is_object()) {
      refuse_configuration(
          origin, concat("rope_parameters holds an object ", name,
                         ": rotary methods that differ from layer to layer are not supported"));
    }
    const std::string nearest = nearest_name(name, known);
    refuse_configuration(origin,
                         concat("the rotary method has an unknown member ", name,
                                nearest.empty() ? "" : concat("; did you mean ", nearest, "?")));
  }
}

/// Words of an enum, in JSON and in messages.
template <class E, size_t N>
struct Words {
  const char* member;
  std::array<std::pair<E, const char*>, N> words;

  E read(const JsonMembers& m, const std::string& origin, E otherwise) const {
    const std::string word = m.text(member, name_of(otherwise));
    std::string all;
    for (const auto& [value, known] : words) {
      if (word == known) return value;
      all += concat(all.empty() ? "" : ", ", known);
    }
    refuse_configuration(origin, concat(member, " is '", word, "', none of ", all));
  }
  const char* name_of(E wanted) const {
    return std::find_if(words.begin(), words.end(),
                        [&](const auto& w) { return w.first == wanted; })
        ->second;
  }
};

constexpr Words<YarnRamp, 2> kRamps{
    "ramp", {{{YarnRamp::index, "index"}, {YarnRamp::rotations, "rotations"}}}};
constexpr Words<RotatedPairs, 2> kPairs{
    "rotated_pairs", {{{RotatedPairs::highest, "highest"}, {RotatedPairs::lowest, "lowest"}}}};
constexpr Words<LogScale, 3> kLogScales{"log_scale",
                                        {{{LogScale::none, "none"},
                                          {LogScale::clipped, "clipped"},
                                          {LogScale::unclipped, "unclipped"}}}};

constexpr Words<ClexActivation, 2> kActivations{
    "act", {{{ClexActivation::tanh, "tanh"}, {ClexActivation::silu, "silu"}}}};

bool may_lack_factor(RopeMethod method) {
  switch (method) {
    case RopeMethod::none:
    case RopeMethod::dynamic_linear:
    case RopeMethod::dynamic_yarn:
    case RopeMethod::self_extend:
    case RopeMethod::rerope:
      return true;
    default:
      return false;
  }
}

double read_factor(const JsonMembers& m, const ModelConfig& c, const RopeScaling& s) {
  if ((s.method == RopeMethod::yarn || s.method == RopeMethod::longrope) &&
      m.find("factor") == nullptr) {
    return static_cast<double>(c.max_position_embeddings) / static_cast<double>(s.original_length);
  }
  if (s.method == RopeMethod::clex && m.find("max_factor") != nullptr) return m.real("max_factor");
  return may_lack_factor(s.method) ? m.real("factor", 1.0) : m.real("factor");
}

void read_clex(const JsonMembers& m, const std::string& origin, RopeScaling& s) {
  s.param_factor = m.integer("param_factor", s.param_factor);
  s.clex_activation = kActivations.read(m, origin, s.clex_activation);
  s.time_step = m.real("time_dt", s.time_step);
}

void read_extras(const JsonMembers& m, const std::string& origin, RopeScaling& s) {
  s.resonance = m.flag("resonance", false);
  s.rotated_share = m.real("rotated_share", 1.0);
  s.rotated_pairs = kPairs.read(m, origin, RotatedPairs::highest);
  s.log_scale = kLogScales.read(m, origin, LogScale::none);
  s.window = m.integer("window", 0);
  s.group = m.integer("group", 1);
  s.interpolated_dimensions = m.integer("interpolated_dimensions", 0);
}

void read_yarn(const JsonMembers& m, const std::string& origin, RopeScaling& s) {
  const auto optional = [&](const char* name) {
    return m.find(name) == nullptr ? std::nullopt : std::optional(m.real(name));
  };
  s.attention_factor = optional("attention_factor");
  s.mscale = optional("mscale");
  s.mscale_all_dim = optional("mscale_all_dim");
  s.beta_fast = m.real("beta_fast", s.beta_fast);
  s.beta_slow = m.real("beta_slow", s.beta_slow);
  s.truncate = m.flag("truncate", s.truncate);
  s.ramp = kRamps.read(m, origin, s.ramp);
}

/// Sets a member only where it differs from the default.
template <class T>
void set_unless(Json& json, const char* name, const T& value, const T& otherwise) {
  if (value != otherwise) json.set(name, value);
}

void set_list(Json& json, const char* name, const std::vector<double>& values) {
  if (values.empty()) return;
  Json list = Json::array();
  for (const double value : values) list.push(value);
  json.set(name, list);
}

/// All four, which the released code asks for.
void set_clex(Json& json, const RopeScaling& s) {
  json.set("max_factor", static_cast<int64_t>(s.factor))
      .set("param_factor", s.param_factor)
      .set(kActivations.member, kActivations.name_of(s.clex_activation))
      .set("time_dt", s.time_step);
}

void set_numbers(Json& json, const RopeScaling& s, const RopeScaling& usual) {
  const bool clex = s.method == RopeMethod::clex;
  if (clex) set_clex(json, s);
  if (!clex && (s.factor != 1 || !may_lack_factor(s.method))) json.set("factor", s.factor);
  if (s.original_length > 0) json.set(kOriginal, s.original_length);
  if (s.attention_factor) json.set("attention_factor", *s.attention_factor);
  if (s.mscale) json.set("mscale", *s.mscale);
  if (s.mscale_all_dim) json.set("mscale_all_dim", *s.mscale_all_dim);
  set_unless(json, "beta_fast", s.beta_fast, usual.beta_fast);
  set_unless(json, "beta_slow", s.beta_slow, usual.beta_slow);
  set_unless(json, "truncate", s.truncate, usual.truncate);
  if (s.ramp != usual.ramp) json.set(kRamps.member, kRamps.name_of(s.ramp));
  const bool llama3 = s.method == RopeMethod::llama3;  // Hugging Face requires them there
  if (llama3 || s.low_freq_factor != usual.low_freq_factor)
    json.set("low_freq_factor", s.low_freq_factor);
  if (llama3 || s.high_freq_factor != usual.high_freq_factor)
    json.set("high_freq_factor", s.high_freq_factor);
  set_list(json, "short_factor", s.short_factor);
  set_list(json, "long_factor", s.long_factor);
  set_unless(json, "interpolated_dimensions", s.interpolated_dimensions,
             usual.interpolated_dimensions);
}

}  // namespace

Json rope_scaling_json(const ModelConfig& config) {
  const RopeScaling& s = config.rope_scaling;
  RopeScaling usual;
  usual.partial_rotary_factor = s.partial_rotary_factor;  // stands beside rope_scaling
  if (s == usual) return Json();
  Json json = Json::object();
  json.set("rope_type", name_of(s.method)).set("type", name_of(s.method));
  set_numbers(json, s, usual);
  set_unless(json, "window", s.window, usual.window);
  set_unless(json, "group", s.group, usual.group);
  set_unless(json, "resonance", s.resonance, usual.resonance);
  set_unless(json, "rotated_share", s.rotated_share, usual.rotated_share);
  if (s.rotated_pairs != usual.rotated_pairs)
    json.set(kPairs.member, kPairs.name_of(s.rotated_pairs));
  if (s.log_scale != usual.log_scale) json.set(kLogScales.member, kLogScales.name_of(s.log_scale));
  return json;
}

Json rope_parameters_json(const ModelConfig& config) {
  Json json = Json::object();
  json.set("rope_type", name_of(config.rope_scaling.method)).set("rope_theta", config.rope_theta);
  if (config.rope_scaling.partial_rotary_factor != 1.0) {
    json.set("partial_rotary_factor", config.rope_scaling.partial_rotary_factor);
  }
  const Json scaling = rope_scaling_json(config);
  if (scaling.is_null()) return json;
  for (const auto& [name, value] : scaling.members()) {
    if (name != "type") json.set(name, value);
  }
  return json;
}

void read_rope(const Json& json, const std::string& origin, ModelConfig& c) {
  const JsonMembers m(json, origin);
  refuse_unknown_members(json, origin);
  RopeScaling s;
  s.partial_rotary_factor = m.real("partial_rotary_factor", c.rope_scaling.partial_rotary_factor);
  try {
    s.method = rope_method(m.text("rope_type", m.text("type", "default")));
  } catch (const UsageError& error) {
    refuse_configuration(origin, concat("rope_scaling: ", error.what()));
  }
  read_yarn(m, origin, s);
  read_extras(m, origin, s);
  if (s.method == RopeMethod::clex) read_clex(m, origin, s);
  if (s.method == RopeMethod::llama3) s.original_length = m.integer(kOriginal);
  s.original_length = m.integer(kOriginal, c.rope_scaling.original_length);
  if (s.original_length == 0 && uses_original_length(s))
    s.original_length = c.max_position_embeddings;
  s.factor = read_factor(m, c, s);
  s.low_freq_factor = m.real("low_freq_factor", s.low_freq_factor);
  s.high_freq_factor = m.real("high_freq_factor", s.high_freq_factor);
  if (s.method == RopeMethod::longrope) {
    s.short_factor = m.reals("short_factor");
    s.long_factor = m.reals("long_factor");
  }
  c.rope_theta = m.real("rope_theta", c.rope_theta);
  c.rope_scaling = std::move(s);
}

}  // namespace ringbolt
