// How a model's positions turn into rotary angles, as data: which method, and its numbers. The
// formulas are in rope/.
//
// The names are those of Hugging Face's rope_scaling where it has one. A method changes the
// frequencies (or how two of them share the attention); resonance, the rotated share, partial
// rotation and log-scaled queries go on top of any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ringbolt {

enum class RopeMethod {
  none,            ///< "default": the base alone
  linear,          ///< position interpolation
  dynamic_linear,  ///< the same, its factor being what the present length needs
  ntk,             ///< static NTK-aware: a larger base
  ntk_mixed,       ///< "NTK-RoPE-mixed": a larger base for each pair
  dynamic_ntk,     ///< "dynamic": the base grows with the present length
  ntk_by_parts,    ///< YaRN's blend by rotations, without its temperature
  part_ntk,  ///< NTK-by-parts as first released: static NTK between the pairs that are kept and
             ///< those divided
  yarn,
  dynamic_yarn,  ///< its factor being what the present length needs
  longrope,      ///< a factor for each pair
  llama3,
  dprope,        ///< per pair, by the disturbance of the distribution of its angles
  clex,          ///< a neural differential equation over the scale
  self_extend,   ///< two-part attention: grouped positions beyond a window
  rerope,        ///< two-part attention: one distance for all that is beyond a window
  leaky_rerope,  ///< two-part attention: distances beyond a window divided by the factor
};

/// What YaRN's ramp between kept and divided frequencies is linear in.
enum class YarnRamp {
  index,      ///< the pair's index, as all released code has it
  rotations,  ///< rotations within the original length, as the paper has it (eq. 17-18)
};

enum class RotatedPairs { highest, lowest };  ///< which pairs a rotated share keeps, by frequency

/// Of CLEX's hidden units.
enum class ClexActivation { tanh, silu };

/// Queries multiplied by ln(position + 1) / ln(L).
enum class LogScale {
  none,
  clipped,    ///< never below 1
  unclipped,  ///< below 1 within L
};

struct RopeScaling {
  RopeMethod method = RopeMethod::none;
  double factor = 1.0;          ///< s: how many times the original length is wanted
  int64_t original_length = 0;  ///< L, in tokens; 0: the model's max_position_embeddings
  std::optional<double> attention_factor = {};  ///< on cos and sin; by default what the method says

  double beta_fast = 32.0;  ///< YaRN: rotations within L from which a pair is kept …
  double beta_slow = 1.0;   ///< … and below which it is divided by the factor
  YarnRamp ramp = YarnRamp::index;
  bool truncate = true;  ///< YaRN: whole indices as the ends of the ramp
  std::optional<double> mscale =
      {};  ///< YaRN: with mscale_all_dim, the attention factor is their ratio
  std::optional<double> mscale_all_dim = {};

  double low_freq_factor = 1.0;   ///< Llama 3: periods above L / it are divided by the factor …
  double high_freq_factor = 4.0;  ///< … and below L / it are kept
  std::vector<double> short_factor = {};  ///< LongRoPE (R/2): divisors up to length L …
  std::vector<double> long_factor = {};   ///< … and beyond it
  int64_t interpolated_dimensions =
      0;  ///< DPRoPE: how many to divide, the most disturbed first; 0: what disturbs less

  int64_t param_factor = 1;  ///< CLEX: hidden units of its network, in multiples of R
  ClexActivation clex_activation = ClexActivation::tanh;
  double time_step = 0.01;  ///< CLEX: of the solver, in units of the scale

  int64_t window = 0;  ///< two-part attention: distances below it are as trained
  int64_t group = 1;   ///< Self-Extend: positions that share one beyond the window

  bool resonance = false;  ///< whole periods (Resonance RoPE)
  double partial_rotary_factor =
      1.0;  ///< share of head_dim that rotates, with a full range of frequencies
  double rotated_share =
      1.0;  ///< p-RoPE: share of the pairs that rotate; the others carry content only
  RotatedPairs rotated_pairs = RotatedPairs::highest;
  LogScale log_scale = LogScale::none;

  friend bool operator==(const RopeScaling&, const RopeScaling&) = default;
};

/// Whether the angles of one position change when the sequence gets longer: such a model caches
/// keys before rotation.
bool angles_depend_on_length(const RopeScaling& scaling);
/// Whether L matters to it.
bool uses_original_length(const RopeScaling& scaling);
/// Self-Extend, ReRoPE and its leaky form: the attention rotates, in two ways.
bool is_two_part(RopeMethod method);
/// R: the dimensions of a head that rotate. HF truncates head_dim * partial_rotary_factor; odd
/// results lose one.
int64_t rotary_dimension(const RopeScaling& scaling, int64_t head_dim);

/// "default", "yarn", "dynamic", … as rope_scaling spells it.
std::string name_of(RopeMethod method);
/// By name; hyphens serve for underscores, and "su" is longrope, as old files call it. Throws:
/// UsageError with the nearest.
RopeMethod rope_method(std::string_view name);
std::vector<std::string> rope_method_names();

/// Throws: UsageError naming the first value that cannot be.
void validate(const RopeScaling& scaling, int64_t head_dim);

}  // namespace ringbolt
