// What a layer's attention costs on ranks, by strategy, and which one is fastest: `auto`.
//
// A ring step costs the longer of its attention and its transfer (as far as the link can work
// beside the kernel), and a launch; all-to-all and gather are waited for. With c rows a rank, F
// flop/s, B bytes/s, g = K/H, e bytes an element the causal ring hides its forward transfer iff c
// >= 2 (F/B) g (e/2), half of that without causality (Ring Attention, arXiv 2310.01889, section 3,
// has c >= F/B). A double ring hides the transfer between nodes behind a whole inner ring, so there
// c times the inner ring's size counts (LoongTrain, arXiv 2406.18485). Layouts are taken to be
// balanced.
#pragma once

#include <string>
#include <vector>

#include "parallel/distributed_attention.h"

namespace ringbolt {

struct Link {
  double bytes_per_second;  ///< each way, while both ways are used
  double latency_seconds;   ///< of a message
  /// The share of the shorter of transfer and attention that runs beside the longer: 1 where
  /// neither needs the other's processor, 0 where the copy is the processors' work.
  double overlap = 1;
};

struct MachineRates {
  double forward_flops;       ///< flop/s of attention, 4 D for each visible pair and query head
  double backward_flops;      ///< 10 D for each
  double launch_seconds = 0;  ///< of a kernel
  Link inner;                 ///< between ranks of a node
  Link outer;                 ///< between nodes
  int ranks_per_node = 1 << 20;
};

/// A layer's attention on `ranks` ranks that share a sequence.
struct AttentionJob {
  int64_t tokens;  ///< S
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  DType dtype;
  AttentionSlice::Mask mask = AttentionSlice::Mask::causal;
  int ranks;
};

struct PassCost {
  double seconds = 0;
  double compute_seconds = 0;
  double exposed_seconds = 0;  ///< seconds without compute and launches: what nothing hides
  double bytes = 0;            ///< received by a rank
};

struct AttentionCandidate {
  MeshShape mesh;
  AttentionChoice choice;
  PassCost forward;
  PassCost backward;
  double step_compute_seconds = 0;   ///< of a forward ring step
  double step_transfer_seconds = 0;  ///< of its block; in a double ring, of that between nodes

  double seconds() const { return forward.seconds + backward.seconds; }
  /// The ring's forward transfer is no longer than the attention it hides behind. True where
  /// nothing travels in a ring.
  bool hidden = true;
  /// "ring 4", "double ring 2 x 4, queries in backward", "all-to-all 2, ring 4".
  std::string str() const;
};

/// Requires: the mesh has job.ranks sequence ranks, its head ranks divide the heads.
AttentionCandidate predict_attention(const AttentionJob& job, const MachineRates& rates,
                                     const MeshShape& mesh, const AttentionChoice& choice);

/// The rows a rank of a single ring must have for its forward transfer to hide behind attention.
double rows_to_hide(const AttentionJob& job, double forward_flops, double bytes_per_second);

struct AttentionPlan {
  /// All that are possible, fastest first. A gather must win by 2 %: its memory grows with the
  /// number of ranks.
  std::vector<AttentionCandidate> candidates;
  const AttentionCandidate& best() const { return candidates.front(); }
  /// One line: the best, its time, whether its transfer hides and why, and by how much it wins over
  /// the next kind.
  std::string reason() const;
  /// A line a candidate.
  std::string table() const;

  AttentionJob job;
  MachineRates rates;
};

/// Every division of job.ranks into ring (single and, where it crosses nodes, double) and head
/// ranks.
AttentionPlan plan_attention(const AttentionJob& job, const MachineRates& rates);

}  // namespace ringbolt
