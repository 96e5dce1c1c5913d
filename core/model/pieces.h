// What looks at each token alone (norms, projections, feed-forward, head) takes a sequence a piece
// of tokens at a time, so that its buffers do not grow with the length. Attention, which looks at
// all of them, takes it whole.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ringbolt {

/// Tokens of a piece, unless one is told otherwise: enough to keep a GPU busy, and of a LLaMA 7B's
/// feed-forward 0.3 GB.
inline constexpr int64_t kPieceTokens = 4096;

/// body(begin, end) over T tokens.
template <class Body>
void for_token_pieces(int64_t tokens, int64_t piece, const Body& body) {
  for (int64_t begin = 0; begin < tokens; begin += piece)
    body(begin, std::min(tokens, begin + piece));
}

}  // namespace ringbolt
