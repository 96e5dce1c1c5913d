#include "apps/rope_options.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/quantity.h"
#include "io/rope_json.h"
#include "io/table.h"

namespace ringbolt {
namespace {

/// Methods of which nothing is left at a factor of 1.
bool needs_factor(RopeMethod method) {
  switch (method) {
    case RopeMethod::linear:
    case RopeMethod::ntk:
    case RopeMethod::ntk_mixed:
    case RopeMethod::ntk_by_parts:
    case RopeMethod::part_ntk:
    case RopeMethod::yarn:
    case RopeMethod::llama3:
    case RopeMethod::dprope:
    case RopeMethod::clex:
    case RopeMethod::leaky_rerope:
      return true;
    default:
      return false;
  }
}

/// --rope-scaling: the object itself, or a file with it or with a whole configuration.
Json read_scaling(const std::string& given) {
  const size_t first = given.find_first_not_of(" \t\n");
  if (first != std::string::npos && given[first] == '{')
    return Json::parse(given, "--rope-scaling");
  Json file = read_json_file(given);
  for (const char* member : {"rope_parameters", "rope_scaling"}) {
    const Json* inside = file.is_object() ? file.find(member) : nullptr;
    if (inside != nullptr && !inside->is_null()) return *inside;
  }
  return file;
}

void apply_scaling(const std::string& given, ModelConfig& config) {
  const bool is_file = given.find('{') == std::string::npos;
  try {
    read_rope(read_scaling(given), is_file ? given : "--rope-scaling", config);
  } catch (const IoError& error) {
    if (is_file) throw;
    throw UsageError(error.what());  // what was typed, not a file
  }
}

/// A method of its own begins without the numbers of the one before, but for L.
void begin_method(ModelConfig& config, RopeMethod method) {
  RopeScaling scaling;
  scaling.method = method;
  scaling.original_length = config.rope_scaling.original_length;
  scaling.partial_rotary_factor = config.rope_scaling.partial_rotary_factor;
  // Published together with it.
  if (method == RopeMethod::rerope || method == RopeMethod::leaky_rerope)
    scaling.log_scale = LogScale::clipped;
  config.rope_scaling = std::move(scaling);
}

[[noreturn]] void nothing_to_change(const char* option, const RopeScaling& scaling) {
  throw UsageError(
      message(concat("--", option, " changes nothing"),
              concat("the rotary method is ", name_of(scaling.method), ", which does not use it"),
              "Name a --rope-method that does, or leave it out."));
}

std::vector<std::pair<std::string, std::optional<RopeMethod>>> method_words() {
  std::vector<std::pair<std::string, std::optional<RopeMethod>>> words;
  for (std::string name : rope_method_names()) {
    const RopeMethod method = rope_method(name);
    if (method == RopeMethod::longrope) continue;  // needs lists: --rope-scaling
    std::replace(name.begin(), name.end(), '_', '-');
    words.emplace_back(name, method);
  }
  return words;
}

}  // namespace

bool takes_factor(RopeMethod method) {
  return needs_factor(method) || method == RopeMethod::dynamic_ntk ||
         method == RopeMethod::longrope;
}

void RopeOptions::declare(OptionSet& options, const std::string& whose) {
  options.group("Rotary positions");
  options.add("rope-base", "B", base, "Rotary base (theta), for example 1e6")
      .above(1)
      .by_default(whose);
  options
      .choice<std::optional<RopeMethod>>("rope-method", method, method_words(),
                                         "How it reaches further than it was trained")
      .by_default(whose);
  options
      .add("rope-factor", "S", factor, "How many times the original length the method is to reach")
      .at_least(1);
  options
      .add("rope-original-length", "N", original_length,
           "Length before any extension, which the factor multiplies")
      .at_least(2)
      .by_default(whose + " length");
  options
      .add("rope-window", "N", window,
           "self-extend, rerope, leaky-rerope: distances below it stay as trained")
      .at_least(1);
  options.add("rope-group", "N", group, "self-extend: positions that become one beyond the window")
      .at_least(2);
  options.flag("rope-resonance", resonance, "Rounds periods to whole tokens, on top of any method");
  options.choice<std::optional<LogScale>>(
      "rope-log-scale", log_scale,
      {{"none", LogScale::none},
       {"clipped", LogScale::clipped},
       {"unclipped", LogScale::unclipped}},
      "Multiplies queries by ln(position) / ln(original length); clipped: never below 1");
  options.add("rope-scaling", "JSON|FILE", scaling,
              "Or all of it as Hugging Face's rope_scaling or rope_parameters: the object, or a "
              "file with it (config.json)");
  options
      .add("rope-linear-factor", "F", linear_factor,
           "Short for --rope-method linear --rope-factor F")
      .at_least(1);
  for (const char* other :
       {"rope-method", "rope-factor", "rope-linear-factor", "rope-window", "rope-group"})
    options.conflicts("rope-scaling", other, "the object says it");
  options.conflicts("rope-linear-factor", "rope-method", "it is a method itself");
  options.conflicts("rope-linear-factor", "rope-factor", "it is the factor itself");
}

void RopeOptions::apply(ModelConfig& config) const {
  if (scaling) apply_scaling(*scaling, config);
  config.rope_theta = base.value_or(config.rope_theta);
  if (method) begin_method(config, *method);
  if (linear_factor)
    begin_method(config, *linear_factor == 1 ? RopeMethod::none : RopeMethod::linear);
  RopeScaling& s = config.rope_scaling;
  if (factor && !takes_factor(s.method)) nothing_to_change("rope-factor", s);
  if (window && !is_two_part(s.method)) nothing_to_change("rope-window", s);
  if (group && s.method != RopeMethod::self_extend) nothing_to_change("rope-group", s);
  s.factor = linear_factor.value_or(factor.value_or(s.factor));
  s.window = window.value_or(s.window);
  s.group = group.value_or(s.group);
  s.resonance = s.resonance || resonance;
  s.log_scale = log_scale.value_or(s.log_scale);
  if (original_length && !uses_original_length(s)) nothing_to_change("rope-original-length", s);
  s.original_length = original_length.value_or(s.original_length);
  if (s.original_length == 0 && uses_original_length(s))
    s.original_length = config.max_position_embeddings;
  if (method && needs_factor(*method) && !factor) {
    throw UsageError(message(concat("--rope-method ", name_of(*method), " has no factor"),
                             "it must know how many times the original length is wanted",
                             "Add --rope-factor 4 or so."));
  }
}

std::vector<std::string> rope_option_names() {
  return {"rope-base",    "rope-method",       "rope-factor",    "rope-original-length",
          "rope-window",  "rope-group",        "rope-resonance", "rope-log-scale",
          "rope-scaling", "rope-linear-factor"};
}

std::string rope_description(const ModelConfig& config) {
  const RopeScaling& s = config.rope_scaling;
  std::string text = "base " + format_real(config.rope_theta);
  if (s.method != RopeMethod::none) text += ", " + name_of(s.method);
  if (s.factor != 1) text += " x" + format_real(s.factor);
  if (uses_original_length(s)) text += " of " + short_size(config.rope_original_length());
  if (s.window > 0) text += concat(", window ", s.window);
  if (s.group > 1) text += concat(", group ", s.group);
  if (s.resonance) text += ", resonance";
  if (s.partial_rotary_factor != 1) text += concat(", ", s.partial_rotary_factor, " of a head");
  if (s.rotated_share != 1) text += concat(", p = ", s.rotated_share);
  if (s.log_scale != LogScale::none)
    text += s.log_scale == LogScale::clipped ? ", log-scaled (clipped)" : ", log-scaled";
  return text;
}

}  // namespace ringbolt
