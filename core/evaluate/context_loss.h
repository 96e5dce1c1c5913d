// Loss against context length: what an extrapolation experiment measures.
//
// Default protocol: consecutive windows of W targets; inputs are BOS and the first W - 1 of them;
// positions 0 … W - 1; all targets scored, each with the same weight. With a stride below W windows
// overlap, and the overlap is scored again or not.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "core/evaluate/parallel_context.h"
#include "core/model/placement.h"
#include "core/model/transformer.h"
#include "core/train/training_data.h"

namespace ringbolt {

enum class Overlap { scored, masked };

struct EvaluationProtocol {
  int64_t context_length = 0;         ///< W
  int64_t windows = 0;                ///< at most this many; 0: as many as there are
  int64_t stride = 0;                 ///< tokens between the starts of windows; 0: W
  Overlap overlap = Overlap::masked;  ///< whether targets that an earlier window scored count again
  int32_t bos_id = 1;
  int64_t buckets = 4;  ///< equal parts of the window, each with a loss of its own
  int64_t tokens_per_pass =
      8192;  ///< windows are run together up to this many tokens of a data rank
  /// The context in parallel windows: only the query's targets are scored, and buckets are parts of
  /// the query.
  std::optional<ParallelContext> parallel = std::nullopt;
};

/// Throws: UsageError naming the first value that cannot be.
void validate(const EvaluationProtocol& protocol);

/// What the tokens of a window of this protocol see, and `placement` and `rotary` of
/// evaluate_context must be made for; nothing where it is all that came before them.
std::optional<ParallelWindows> windows_of(const EvaluationProtocol& protocol);

struct ContextLoss {
  EvaluationProtocol protocol;
  int64_t windows = 0;
  LossSum total;
  std::vector<LossSum> buckets;  ///< by position in the window, first quarter first

  double mean() const { return total.loss / static_cast<double>(total.tokens); }
  double perplexity() const;
  double accuracy() const {
    return static_cast<double>(total.hits) / static_cast<double>(total.tokens);
  }
};

/// Called after each layer of a pass, and after its head, with the tokens of windows done, those of
/// a pass under way in proportion to its layers, and the tokens of all windows.
using EvaluationProgress = std::function<void(int64_t done, int64_t tokens)>;

/// Windows that a stream of this many tokens has under the protocol. Throws: UsageError where it
/// has none.
int64_t window_count(const EvaluationProtocol& protocol, int64_t stream_tokens);

/// Windows that a data rank runs together where `groups` of them share `windows`.
int64_t windows_per_pass(const EvaluationProtocol& protocol, int64_t windows, int64_t groups);

/// Evaluates the model over a token stream: passes of some windows go to the data ranks in turn.
/// The result is the same on all ranks. Collective.
ContextLoss evaluate_context(Transformer& model, Placement& placement,
                             const EvaluationProtocol& protocol, int64_t stream_tokens,
                             const TokenReader& read, const RotaryTables& rotary,
                             const EvaluationProgress& progress = {});

}  // namespace ringbolt
