// Training CLEX's network with the model (arXiv 2310.16450; DAMO-NLP-SG/CLEX).
//
// Each sequence is rotated at a scale t of its own, at positions spread over t times its length, so
// that the network learns the whole way from 1 to the largest scale. Backward leaves the gradient
// of every token's angles; times position, summed in double over tokens, it is that of the
// frequencies at each scale, which the solver takes back to the network's weights.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/backend/backend.h"
#include "core/model/parameters.h"
#include "core/train/trained_rotary.h"
#include "rope/clex.h"

namespace ringbolt {

/// How a training sequence is rotated: a token's angles are positions[index] / divisor *
/// theta(scale).
struct ClexSequence {
  int64_t scale = 1;
  int64_t divisor = 1;
  std::vector<int64_t> positions;  ///< (S)
};
using ClexSequences = std::function<ClexSequence(int64_t sequence)>;

/// As released, but for each sequence instead of each forward pass: t uniform in 1 … max_factor;
/// positions 0, S t - 1 and a sorted sample of those between, so t = 1 is plain rotation; divided
/// by floor(S / L) where S exceeds L. A function of (seed, sequence) alone.
ClexSequences clex_sequences(const ModelConfig& config, int64_t length, uint64_t seed);
/// At the positions (S) of a map below `reach`, all at the scale that a sequence of `reach` tokens
/// has.
ClexSequences clex_sequences(const ModelConfig& config, int64_t reach,
                             std::function<std::vector<int64_t>(int64_t sequence)> positions);

/// The network in a store. Requires: the model's method is CLEX. Collective, as
/// ParameterStore::weights.
ClexWeights read_clex_weights(Backend& backend, ParameterStore& parameters);

class ClexTraining final : public TrainedRotary {
 public:
  /// Backend and store must outlive it. Requires: the model's method is CLEX, without resonance: a
  /// period that is rounded to whole tokens has no gradient.
  ClexTraining(Backend& backend, ParameterStore& parameters, ClexSequences sequences);

  const RotaryTable& table(std::span<const SequenceToken> tokens) override;
  void angles_complete() override;
  void backward(View gradient) override;

 private:
  /// Where a token of the last table is.
  struct Place {
    size_t scale;         ///< index into frequencies_
    double position = 0;  ///< what its frequencies are multiplied by
  };
  void solve();
  void write_rows(std::span<const SequenceToken> tokens, std::vector<float>& cosines,
                  std::vector<float>& sines);

  Backend& backend_;
  ParameterStore& parameters_;
  const ModelConfig config_;
  const ClexSequences sequences_;
  std::vector<double> scales_;                    ///< 1 … max_factor
  ClexWeights weights_;                           ///< that frequencies_ were solved with
  std::vector<std::vector<double>> frequencies_;  ///< of each scale, (R/2)
  std::vector<std::vector<double>>
      dfrequencies_;           ///< of each scale, (R/2): sums over this rank's tokens
  std::vector<Place> places_;  ///< (T) of the last table
  Tensor dangles_;
  RotaryTable table_;
};

}  // namespace ringbolt
