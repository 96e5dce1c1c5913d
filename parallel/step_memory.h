// The allocations of core/model and of attention over ranks, in the order of the code that makes
// them: what the accounts of training, evaluation and generation are put together from.
#pragma once

#include <vector>

#include "core/model/pieces.h"
#include "parallel/memory_ledger.h"

namespace ringbolt {

/// One rank's part of a micro-batch.
class StepMemory {
 public:
  using Hold = Ledger::Hold;

  /// Of `tokens` tokens a rank; what looks at each alone takes `piece_tokens` at a time. Ledger and
  /// shape must outlive it.
  StepMemory(Ledger& ledger, const TrainingShape& c, int64_t tokens,
             int64_t piece_tokens = kPieceTokens)
      : ledger_(ledger),
        c_(c),
        m_(c.model),
        t_(tokens),
        piece_tokens_(piece_tokens),
        a_(size_of(c.dtype)) {}

  /// Bytes of the residual stream.
  int64_t hidden(int64_t tokens) const { return tokens * m_.hidden_size * a_; }

  /// What a layer keeps; with Recompute::none: input, q and kv, attention and lse, middle,
  /// products.
  using Kept = std::vector<Hold>;
  Kept forward_layer();
  /// What a policy dropped comes back first.
  void backward_layer(Kept kept);
  void head();

  /// Nothing is kept.
  void forward_only();
  void head_forward_only();

 private:
  enum class Result { rounded, f32 };  ///< type of attention's output

  int64_t queries() const { return t_ * m_.query_width() * a_; }
  int64_t keys() const { return t_ * 2 * m_.key_value_width() * a_; }
  int64_t rows() const;  ///< lse, delta
  int64_t products(int64_t tokens) const { return tokens * 2 * m_.intermediate_size * a_; }
  bool narrow() const { return c_.dtype != DType::f32; }

  int64_t ring() const { return c_.mesh.ring(); }
  int64_t inner() const;
  int64_t outer() const;
  int64_t ring_blocks(int64_t block) const;
  int64_t ring_sums(int64_t sum) const;
  bool gathers() const;
  int64_t traded_keys() const;

  void project();
  int64_t converted(int64_t keys, std::vector<Hold>& holds);
  void attention_forward(Result result = Result::rounded);
  void two_part_forward();
  void attention_backward();
  void feed_forward(bool backward = false);
  void product(int64_t rows, int64_t depth, int64_t columns);

  bool cudnn() const { return c_.gpu && narrow(); }
  void library_forward();
  void library_backward();
  void norm_partials();

  Ledger& ledger_;
  const TrainingShape& c_;
  const ModelConfig& m_;
  int64_t t_;
  int64_t piece_tokens_;
  int64_t a_;
};

}  // namespace ringbolt
