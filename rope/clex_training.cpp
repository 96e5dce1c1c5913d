#include "rope/clex_training.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/base/error.h"
#include "core/base/random.h"
#include "rope/angle_rows.h"
#include "rope/log_scale.h"
#include "rope/p_rope.h"
#include "rope/position_maps.h"

namespace ringbolt {
namespace {

int64_t largest_scale(const ModelConfig& config) {
  return static_cast<int64_t>(config.rope_scaling.factor);
}

std::vector<double> part_of(const std::vector<float>& flat, const ParameterSpec& spec) {
  const auto begin = flat.begin() + spec.offset;
  return {begin, begin + spec.shape.elements()};
}

/// A sequence and the rows of its table; stays where it is made, since the rows refer to the
/// frequencies.
struct SequenceRows {
  SequenceRows(ClexSequence s, const std::vector<double>& of_scale)
      : sequence(std::move(s)),
        frequencies(of_scale),
        rows(divided(frequencies, sequence.divisor)) {}
  SequenceRows(const SequenceRows&) = delete;
  SequenceRows& operator=(const SequenceRows&) = delete;
  ~SequenceRows() = default;

  static const std::vector<double>& divided(std::vector<double>& frequencies, int64_t divisor) {
    for (double& frequency : frequencies) frequency /= static_cast<double>(divisor);
    return frequencies;
  }

  ClexSequence sequence;
  std::vector<double> frequencies;  ///< of one of its positions
  AngleRows rows;
};

}  // namespace

ClexSequences clex_sequences(const ModelConfig& config, int64_t length, uint64_t seed) {
  const int64_t scales = largest_scale(config);
  const int64_t divisor = std::max<int64_t>(1, length / config.rope_original_length());
  return [=](int64_t sequence) {
    const Philox random(seed, stream_of("CLEX scale"));
    const double drawn =
        random.uniform(static_cast<uint64_t>(sequence)) * static_cast<double>(scales);
    const int64_t scale = std::min(scales, 1 + static_cast<int64_t>(drawn));
    return ClexSequence{scale, divisor,
                        stretched_positions({seed, sequence}, length, length * scale)};
  };
}

ClexSequences clex_sequences(const ModelConfig& config, int64_t reach,
                             std::function<std::vector<int64_t>(int64_t sequence)> positions) {
  const int64_t scale =
      Clex::scale_of(reach, config.rope_original_length(), config.rope_scaling.factor);
  return [scale, positions = std::move(positions)](int64_t sequence) {
    return ClexSequence{scale, 1, positions(sequence)};
  };
}

ClexWeights read_clex_weights(Backend& backend, ParameterStore& parameters) {
  const ModelConfig& config = parameters.config();
  const int64_t index = rotary_group(config);
  const ParameterGroup group = parameter_groups(config)[static_cast<size_t>(index)];
  const std::vector<float> flat = download_f32(backend, parameters.weights(index));
  return {group.tensors[0].shape[1], part_of(flat, group.tensors[0]),
          part_of(flat, group.tensors[1])};
}

ClexTraining::ClexTraining(Backend& backend, ParameterStore& parameters, ClexSequences sequences)
    : backend_(backend),
      parameters_(parameters),
      config_(parameters.config()),
      sequences_(std::move(sequences)) {
  RINGBOLT_CHECK(config_.rope_scaling.method == RopeMethod::clex &&
                 !config_.rope_scaling.resonance);
  for (int64_t scale = 1; scale <= largest_scale(config_); ++scale)
    scales_.push_back(static_cast<double>(scale));
  const int64_t dim = rotary_dimension(config_.rope_scaling, config_.head_dim);
  dfrequencies_.assign(scales_.size(), std::vector<double>(static_cast<size_t>(dim / 2)));
}

/// Only where the weights are others: the micro-batches of a step share one solution.
void ClexTraining::solve() {
  ClexWeights now = read_clex_weights(backend_, parameters_);
  if (!frequencies_.empty() && now.up == weights_.up && now.down == weights_.down) return;
  weights_ = std::move(now);
  frequencies_ = Clex(config_, weights_).frequencies(scales_);
  const RopeScaling& s = config_.rope_scaling;
  for (std::vector<double>& of_scale : frequencies_)
    keep_rotated_share(of_scale, s.rotated_share, s.rotated_pairs);
}

void ClexTraining::write_rows(std::span<const SequenceToken> tokens, std::vector<float>& cosines,
                              std::vector<float>& sines) {
  const double factor = config_.rope_scaling.attention_factor.value_or(1.0);
  const size_t pairs = dfrequencies_.front().size();
  std::map<int64_t, SequenceRows> sequences;
  for (size_t t = 0; t < tokens.size(); ++t) {
    auto found = sequences.find(tokens[t].sequence);
    if (found == sequences.end()) {
      ClexSequence drawn = sequences_(tokens[t].sequence);
      const std::vector<double>& frequencies = frequencies_[static_cast<size_t>(drawn.scale - 1)];
      found = sequences.try_emplace(tokens[t].sequence, std::move(drawn), frequencies).first;
    }
    SequenceRows& s = found->second;
    const int64_t position =
        tokens[t].index < 0 ? 0 : s.sequence.positions[static_cast<size_t>(tokens[t].index)];
    s.rows.write(position, factor, &cosines[t * pairs], &sines[t * pairs]);
    places_[t] = {static_cast<size_t>(s.sequence.scale - 1),
                  static_cast<double>(position) / static_cast<double>(s.sequence.divisor)};
  }
}

const RotaryTable& ClexTraining::table(std::span<const SequenceToken> tokens) {
  solve();
  const auto rows = static_cast<int64_t>(tokens.size());
  const auto pairs = static_cast<int64_t>(dfrequencies_.front().size());
  std::vector<float> cosines(static_cast<size_t>(rows * pairs));
  std::vector<float> sines(cosines.size());
  places_.resize(tokens.size());
  write_rows(tokens, cosines, sines);
  table_ = RotaryTable();  // two never take memory at once
  dangles_ = Tensor();
  dangles_ = backend_.allocate(DType::f32, {rows, pairs});
  backend_.fill_zero(dangles_);
  table_.cos = upload_new(backend_, DType::f32, {rows, pairs}, cosines.data());
  table_.sin = upload_new(backend_, DType::f32, {rows, pairs}, sines.data());
  table_.dangles = dangles_;
  if (config_.rope_scaling.log_scale != LogScale::none) {
    std::vector<float> scales;
    for (const Place& place : places_) {
      scales.push_back(static_cast<float>(log_query_scale(config_.rope_scaling.log_scale,
                                                          static_cast<int64_t>(place.position),
                                                          config_.rope_original_length())));
    }
    table_.query_scale = upload_new(backend_, DType::f32, {rows}, scales.data());
  }
  return table_;
}

void ClexTraining::angles_complete() {
  const std::vector<float> dangles = download_f32(backend_, dangles_);
  const size_t pairs = dfrequencies_.front().size();
  for (size_t t = 0; t < places_.size(); ++t) {
    const std::vector<double>& frequencies = frequencies_[places_[t].scale];
    std::vector<double>& sums = dfrequencies_[places_[t].scale];
    for (size_t i = 0; i < pairs; ++i) {
      // A pair that does not rotate keeps its frequency of 0.
      if (frequencies[i] != 0)
        sums[i] += places_[t].position * static_cast<double>(dangles[t * pairs + i]);
    }
  }
}

void ClexTraining::backward(View gradient) {
  const Clex::Gradients g = Clex(config_, weights_).backward(scales_, dfrequencies_);
  for (std::vector<double>& sums : dfrequencies_) std::fill(sums.begin(), sums.end(), 0.0);
  const ParameterGroup group =
      parameter_groups(config_)[static_cast<size_t>(rotary_group(config_))];
  std::vector<float> flat(static_cast<size_t>(group.elements));
  std::copy(g.up.begin(), g.up.end(), flat.begin() + group.tensors[0].offset);
  std::copy(g.down.begin(), g.down.end(), flat.begin() + group.tensors[1].offset);
  const Tensor all = upload_new(backend_, DType::f32, {group.elements}, flat.data());
  backend_.add(all, gradient.slice_rows(0, group.elements));
}

}  // namespace ringbolt
