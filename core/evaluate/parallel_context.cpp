#include "core/evaluate/parallel_context.h"

#include <algorithm>

#include "core/base/error.h"

namespace ringbolt {

void validate(const ParallelContext& c) {
  if (c.query < 1) {
    throw UsageError(message(concat("the query of parallel windows has ", c.query, " tokens"),
                             "it alone sees the whole context", "Use --parallel-query 64 or so."));
  }
  if (c.window < 2) {
    throw UsageError(message(concat("a parallel window has ", c.window, " tokens"),
                             "it holds <s> and some text",
                             "Use a larger --parallel-window, or a smaller --parallel-query."));
  }
}

ParallelWindows parallel_windows(const ParallelContext& context, int64_t tokens, bool starts) {
  validate(context);
  const int64_t begin = std::max<int64_t>(0, tokens - context.query);
  ParallelWindows windows{context.window, begin, starts};
  if (starts && begin > context.window) {
    const int64_t text = context.window - 1;  // of each window
    windows.query_begin += (begin - 1 + text - 1) / text - 1;
  }
  return windows;
}

std::vector<int32_t> with_window_starts(std::span<const int32_t> values,
                                        const ParallelWindows& windows, int32_t start) {
  std::vector<int32_t> all;
  for (const int32_t value : values) {
    const auto position = static_cast<int64_t>(all.size());
    const bool begins =
        position > 0 && position < windows.query_begin && position % windows.window == 0;
    if (windows.starts && begins) all.push_back(start);
    all.push_back(value);
  }
  return all;
}

}  // namespace ringbolt
