// The options of a run on many ranks, and what they mean for a number of ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "apps/options.h"
#include "apps/ranks.h"
#include "io/json.h"
#include "parallel/distributed_attention.h"
#include "parallel/layout.h"
#include "parallel/mesh.h"
#include "parallel/sharded_parameters.h"

namespace ringbolt {

/// What the command line can say; the library has no "auto".
enum class AttentionWord { automatic, ring, double_ring, all_gather };
enum class RingBackwardWord { automatic, keys, queries };

struct MeshOptions {
  RankOptions ranks;
  std::optional<int64_t> sequence_ranks;
  std::optional<int64_t> head_ranks;  ///< nothing: 1, or what `auto` finds
  std::optional<int64_t> inner_ranks;
  LayoutKind layout = LayoutKind::zigzag;
  /// Not `auto`: what it measures differs from run to run, and the same command gives the same
  /// bits.
  AttentionWord attention = AttentionWord::ring;
  RingBackwardWord backward = RingBackwardWord::automatic;
  ShardState shard_state = ShardState::gradients;

  /// Without a backward there is nothing to divide but the sequence.
  void declare(OptionSet& options, StorePurpose purpose);
  /// Forgets what a resumed run has stored and `world` ranks, 0 if unknown, cannot be: it goes on
  /// with another number of ranks.
  void fit(const OptionSet& options, int64_t world);
  /// How `world` ranks are arranged. Throws: UsageError where that contradicts the options or the
  /// model.
  MeshShape mesh(int world, const ModelConfig& model) const;
};

std::string name_of(AttentionStrategy strategy);
std::string name_of(RingBackward backward);
std::string name_of(ShardState state);

}  // namespace ringbolt
