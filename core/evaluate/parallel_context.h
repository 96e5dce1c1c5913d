// A text laid out for parallel context windows: which of its tokens are context, and where windows
// begin.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/backend/visibility.h"

namespace ringbolt {

/// The last `query` tokens are the query, those before them the context, cut into windows of
/// `window` tokens. A text that fits one window and the query is ordinary causal attention.
struct ParallelContext {
  int64_t window = 0;  ///< tokens of a window, its <s> included
  int64_t query = 0;
  friend bool operator==(const ParallelContext&, const ParallelContext&) = default;
};

/// Throws: UsageError unless the query has a token and a window one of text.
void validate(const ParallelContext& context);

/// For a text of `tokens` tokens. `starts`: the first of them is <s>, and each further window gets
/// one of its own, so query_begin counts more tokens than the text has.
ParallelWindows parallel_windows(const ParallelContext& context, int64_t tokens, bool starts);

/// One value a token of the text, and `start` where a further window begins. (The text's own <s>
/// begins the first.)
std::vector<int32_t> with_window_starts(std::span<const int32_t> values,
                                        const ParallelWindows& windows, int32_t start);

}  // namespace ringbolt
