#include "core/model/rope_scaling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "core/base/nearest.h"

namespace ringbolt {
namespace {

constexpr std::array<std::pair<RopeMethod, const char*>, 17> kMethods{{
    {RopeMethod::none, "default"},
    {RopeMethod::linear, "linear"},
    {RopeMethod::dynamic_linear, "dynamic_linear"},
    {RopeMethod::ntk, "ntk"},
    {RopeMethod::ntk_mixed, "ntk_mixed"},
    {RopeMethod::dynamic_ntk, "dynamic"},
    {RopeMethod::ntk_by_parts, "ntk_by_parts"},
    {RopeMethod::part_ntk, "part_ntk"},
    {RopeMethod::yarn, "yarn"},
    {RopeMethod::dynamic_yarn, "dynamic_yarn"},
    {RopeMethod::longrope, "longrope"},
    {RopeMethod::llama3, "llama3"},
    {RopeMethod::dprope, "dprope"},
    {RopeMethod::clex, "clex"},
    {RopeMethod::self_extend, "self_extend"},
    {RopeMethod::rerope, "rerope"},
    {RopeMethod::leaky_rerope, "leaky_rerope"},
}};

void require(bool condition, const std::string& problem, const std::string& why,
             const std::string& what_to_try) {
  if (!condition) throw UsageError(message(problem, why, what_to_try));
}

void validate_method(const RopeScaling& s) {
  const std::string name = name_of(s.method);
  require(s.beta_fast > s.beta_slow && s.beta_slow > 0,
          concat(name, ": beta_fast is ", s.beta_fast, ", beta_slow ", s.beta_slow),
          "pairs with more rotations are kept, those with fewer are divided", "Use 32 and 1.");
  require(s.high_freq_factor > s.low_freq_factor && s.low_freq_factor > 0,
          concat(name, ": high_freq_factor is ", s.high_freq_factor, ", low_freq_factor ",
                 s.low_freq_factor),
          "the ramp lies between L / high and L / low", "Use 4 and 1.");
  require(s.method != RopeMethod::clex || s.factor == std::floor(s.factor),
          concat(name, ": the factor is ", s.factor), "its scales are whole numbers", "Use 16.");
  require(s.param_factor >= 1, concat(name, ": param_factor is ", s.param_factor),
          "the network has so many times the rotary dimension in hidden units", "Use 1.");
  require(s.time_step > 0 && s.time_step <= 1, concat(name, ": time_dt is ", s.time_step),
          "the solver takes steps of that size from scale 1 on",
          "Use 0.01, or 0.1 for a faster solution.");
  if (!is_two_part(s.method)) return;
  require(s.window > 0, concat(name, " has no window"),
          "distances below it stay as they were trained",
          "Give --rope-window, for example half of the length that the model was trained at.");
  require(
      s.method != RopeMethod::self_extend || s.group > 1, concat(name, ": the group is ", s.group),
      "so many neighbouring positions become one beyond the window", "Give --rope-group 4 or so.");
  require(
      s.method != RopeMethod::leaky_rerope || (s.factor >= 2 && s.factor == std::floor(s.factor)),
      concat(name, ": the factor is ", s.factor),
      "distances beyond the window are divided by it, a whole number",
      "Give --rope-factor 16 or so.");
}

void validate_factors(const RopeScaling& s, int64_t pairs) {
  if (s.method != RopeMethod::longrope) return;
  for (const auto& [name, list] :
       {std::pair{"short_factor", &s.short_factor}, std::pair{"long_factor", &s.long_factor}}) {
    require(static_cast<int64_t>(list->size()) == pairs,
            concat("longrope: ", name, " has ", list->size(), " numbers"),
            concat("each of the ", pairs, " pairs needs one"),
            "Take the list of the model's config.json.");
    require(
        std::all_of(list->begin(), list->end(), [](double f) { return f > 0 && std::isfinite(f); }),
        concat("longrope: ", name, " holds a number that is not positive"),
        "frequencies are divided by it", "Take the list of the model's config.json.");
  }
}

}  // namespace

bool angles_depend_on_length(const RopeScaling& s) {
  switch (s.method) {
    case RopeMethod::dynamic_linear:
    case RopeMethod::dynamic_ntk:
    case RopeMethod::dynamic_yarn:
    case RopeMethod::clex:
      return true;
    case RopeMethod::longrope:
      return s.short_factor != s.long_factor;
    default:
      return false;
  }
}

bool uses_original_length(const RopeScaling& s) {
  if (s.log_scale != LogScale::none) return true;
  switch (s.method) {
    case RopeMethod::none:
    case RopeMethod::linear:
    case RopeMethod::ntk:
    case RopeMethod::ntk_mixed:
    case RopeMethod::self_extend:
    case RopeMethod::rerope:
    case RopeMethod::leaky_rerope:
      return false;
    default:
      return true;
  }
}

bool is_two_part(RopeMethod method) {
  return method == RopeMethod::self_extend || method == RopeMethod::rerope ||
         method == RopeMethod::leaky_rerope;
}

int64_t rotary_dimension(const RopeScaling& scaling, int64_t head_dim) {
  return static_cast<int64_t>(static_cast<double>(head_dim) * scaling.partial_rotary_factor) / 2 *
         2;
}

std::string name_of(RopeMethod method) {
  const auto* found = std::find_if(kMethods.begin(), kMethods.end(),
                                   [&](const auto& m) { return m.first == method; });
  return found->second;
}

std::vector<std::string> rope_method_names() {
  std::vector<std::string> names;
  names.reserve(kMethods.size());
  for (const auto& [method, name] : kMethods) names.emplace_back(name);
  return names;
}

RopeMethod rope_method(std::string_view name) {
  std::string wanted(name == "su" ? "longrope" : name);
  std::replace(wanted.begin(), wanted.end(), '-', '_');
  for (const auto& [method, known] : kMethods) {
    if (wanted == known) return method;
  }
  std::string all;
  for (const std::string& known : rope_method_names()) all += (all.empty() ? "" : ", ") + known;
  const std::string nearest = nearest_name(wanted, rope_method_names());
  throw UsageError(
      message(concat("unknown rotary method '", name, "'"), concat("known are ", all),
              nearest.empty() ? "Use one of these." : concat("Did you mean ", nearest, "?")));
}

void validate(const RopeScaling& s, int64_t head_dim) {
  const std::string name = name_of(s.method);
  require(s.factor >= 1 && std::isfinite(s.factor),
          concat("the ", name, " rope factor is ", s.factor),
          "it says how many times the original length is wanted", "Use 1 or more.");
  require(s.original_length >= 0,
          concat("the original length of rotary scaling is ", s.original_length),
          "it counts tokens", "Give the length that the model was pre-trained at.");
  require(!s.attention_factor || (*s.attention_factor > 0 && std::isfinite(*s.attention_factor)),
          "the attention factor is not positive", "cosines and sines are multiplied by it",
          "Leave it out.");
  require(s.partial_rotary_factor > 0 && s.partial_rotary_factor <= 1,
          concat("partial_rotary_factor is ", s.partial_rotary_factor), "it is a share of a head",
          "Use 1, or 0.5 or so.");
  const int64_t dim = rotary_dimension(s, head_dim);
  const int64_t least = s.method == RopeMethod::none || s.method == RopeMethod::linear ? 2 : 4;
  require(dim >= least, concat(dim, " of ", head_dim, " dimensions of a head rotate"),
          concat("the method ", name, " needs ", least, " or more"),
          "Use a larger partial_rotary_factor.");
  require(s.rotated_share >= 0 && s.rotated_share <= 1,
          concat("the rotated share is ", s.rotated_share), "it is a share of the pairs",
          "Use 0.75, or 1 for all.");
  require(s.interpolated_dimensions >= 0 && s.interpolated_dimensions <= dim,
          concat("dprope: ", s.interpolated_dimensions, " interpolated dimensions"),
          concat("a head rotates ", dim), "Use fewer, or 0 for those that it disturbs less.");
  validate_method(s);
  validate_factors(s, dim / 2);
}

}  // namespace ringbolt
