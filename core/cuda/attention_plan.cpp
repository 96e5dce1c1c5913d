#include "core/cuda/attention_plan.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/base/error.h"
#include "core/cuda/index.h"

namespace ringbolt::cuda {
namespace {

constexpr int64_t kTile = 128;  ///< keys of cuDNN's tiles
constexpr int64_t kFewQueries =
    16;  ///< below: our split-key kernel, but for one query over a long cache
constexpr int64_t kLongCache = 4096;    ///< keys from which one query goes to cuDNN
constexpr int64_t kSmallBackward = 64;  ///< queries or keys below: our own backward

void append(std::vector<AttentionPiece>& pieces, const AttentionPiece& piece) {
  if (piece.queries > 0 && piece.keys > 0) pieces.push_back(piece);
}

/// The rectangles and the square of one slice: rows that see nothing are left out, keys that all
/// see are a rectangle, the slope is a square, rows below it see everything.
void append_slice(std::vector<AttentionPiece>& pieces, const AttentionSlice& s) {
  if (s.queries() <= 0 || s.keys() <= 0) return;
  if (s.mask == AttentionSlice::Mask::full) {
    append(pieces, {s.query_begin, s.queries(), s.key_begin, s.keys()});
    return;
  }
  const int64_t blind = std::clamp<int64_t>(-s.diagonal, 0, s.queries());
  const int64_t diagonal = std::max<int64_t>(s.diagonal, 0);
  const int64_t begin = s.query_begin + blind;
  const int64_t rows = s.queries() - blind;
  const int64_t shared = std::min(diagonal, s.keys());
  const int64_t slope = std::min(rows, s.keys() - shared);
  if (slope == 1) {  // one row, that sees one key more: a rectangle
    append(pieces, {begin, 1, s.key_begin, shared + 1});
  } else {
    append(pieces, {begin, slope, s.key_begin, shared});
    append(pieces, {begin, slope, s.key_begin + shared, slope, true});
  }
  append(pieces, {begin + slope, rows - slope, s.key_begin, s.keys()});
}

bool joins(const AttentionPiece& batch, const AttentionPiece& next) {
  if (batch.queries != next.queries || batch.keys != next.keys || batch.causal != next.causal)
    return false;
  const int64_t query_step = (next.query_begin - batch.query_begin) / batch.batch;
  const int64_t key_step = (next.key_begin - batch.key_begin) / batch.batch;
  if (query_step < batch.queries || key_step < batch.keys) return false;
  if (batch.query_begin + query_step * batch.batch != next.query_begin) return false;
  if (batch.key_begin + key_step * batch.batch != next.key_begin) return false;
  return batch.batch == 1 || (batch.query_step == query_step && batch.key_step == key_step);
}

/// sdpa_fp8: head dimensions are multiples of 16, the largest that of the generation, and Hopper
/// has none for one query.
bool cudnn_takes_e4m3(const AttentionPiece& piece, const AttentionTraits& traits) {
  const bool hopper = traits.arch / 10 == 9;
  if (traits.arch < 90 || !traits.aligned || traits.head_dim % 16 != 0 || traits.head_dim < 16)
    return false;
  if (traits.head_dim > (hopper ? 256 : 128)) return false;
  if (piece.queries == 1) return !hopper && piece.keys >= kLongCache && piece.batch == 1;
  return piece.queries >= kFewQueries && piece.keys >= kSmallBackward;
}

/// Rectangles of at most kHopperE4m3Keys keys, and squares of as many, that make up the piece.
/// Squares are of few sizes, or each would want a plan of its own.
void append_of_few_keys(std::vector<AttentionPiece>& pieces, const AttentionPiece& piece) {
  if (piece.keys <= kHopperE4m3Keys) return append(pieces, piece);
  if (!piece.causal) {
    for (int64_t key = 0; key < piece.keys; key += kHopperE4m3Keys) {
      AttentionPiece part = piece;
      part.key_begin += key;
      part.keys = std::min(kHopperE4m3Keys, piece.keys - key);
      append(pieces, part);
    }
    return;
  }
  const auto units = static_cast<uint64_t>((piece.keys - 1) / kHopperE4m3Keys);
  const int64_t upper = kHopperE4m3Keys * static_cast<int64_t>(std::bit_floor(units));
  AttentionPiece square = piece;
  square.queries = square.keys = upper;
  append_of_few_keys(pieces, square);
  AttentionPiece below = piece;
  below.query_begin += upper;
  below.queries -= upper;
  AttentionPiece left = below;
  left.keys = upper;
  left.causal = false;
  append_of_few_keys(pieces, left);
  below.key_begin += upper;
  below.keys -= upper;
  append_of_few_keys(pieces, below);
}

bool cudnn_takes(const AttentionPiece& piece, Direction direction, const AttentionTraits& traits) {
  if (traits.dtype == DType::e4m3) return cudnn_takes_e4m3(piece, traits);
  if (traits.dtype != DType::bf16 || traits.arch < 80 || !traits.aligned) return false;
  if (traits.head_dim % 8 != 0 || traits.head_dim < 16 || traits.head_dim > 256) return false;
  if (direction == Direction::backward) {
    if (traits.head_dim > 128 && traits.arch / 10 != 9) return false;
    return piece.queries >= kSmallBackward && piece.keys >= kSmallBackward;
  }
  if (piece.queries == 1) return piece.keys >= kLongCache && piece.batch == 1;
  return piece.queries >= kFewQueries && piece.keys >= kSmallBackward;
}

int64_t leading_digits(int64_t n, int digits) {
  const int shift =
      std::max(0, static_cast<int>(std::bit_width(static_cast<uint64_t>(n))) - digits);
  return n >> shift << shift;
}

/// One query over a long cache, which grows by a key a token: cuDNN takes a round number of keys,
/// the rest is ours.
void append_decoding(std::vector<AttentionWork>& work, const AttentionPiece& piece) {
  const int64_t body = leading_digits(piece.keys, 3);
  AttentionPiece part = piece;
  part.keys = body;
  work.push_back({part, Engine::cudnn, 1, body, false});
  part.key_begin += body;
  part.keys = piece.keys - body;
  if (part.keys > 0) work.push_back({part, Engine::own, 0, 0, false});
}

}  // namespace

int64_t padded_length(int64_t length) {
  const int64_t tiles = ceil_divide(length, kTile);
  const int64_t low = leading_digits(tiles, 3);
  const int64_t step = std::bit_floor(static_cast<uint64_t>(std::max<int64_t>(tiles, 1))) >= 4
                           ? static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(tiles)) / 4)
                           : 1;
  return (low == tiles ? tiles : low + step) * kTile;
}

std::vector<AttentionPiece> attention_pieces(SliceList slices) {
  std::vector<AttentionPiece> single;
  for (const AttentionSlice& slice : without_left_diagonals(slices)) append_slice(single, slice);
  std::vector<AttentionPiece> pieces;
  for (const AttentionPiece& next : single) {
    if (pieces.empty() || !joins(pieces.back(), next)) {
      pieces.push_back(next);
      continue;
    }
    AttentionPiece& batch = pieces.back();
    if (batch.batch == 1) {
      batch.query_step = next.query_begin - batch.query_begin;
      batch.key_step = next.key_begin - batch.key_begin;
    }
    ++batch.batch;
  }
  return pieces;
}

std::vector<AttentionWork> attention_work(SliceList slices, Direction direction,
                                          const AttentionTraits& traits) {
  const bool few_keys = traits.dtype == DType::e4m3 && traits.arch / 10 == 9;
  std::vector<AttentionPiece> pieces;
  for (const AttentionPiece& piece : attention_pieces(slices)) {
    if (few_keys && cudnn_takes(piece, direction, traits)) {
      append_of_few_keys(pieces, piece);
    } else {
      pieces.push_back(piece);
    }
  }
  std::vector<AttentionWork> work;
  for (const AttentionPiece& piece : pieces) {
    if (!cudnn_takes(piece, direction, traits)) {
      work.push_back({piece, Engine::own, 0, 0, false});
    } else if (piece.queries == 1) {
      append_decoding(work, piece);
    } else if (piece.queries % kTile == 0 && piece.keys % kTile == 0) {
      work.push_back({piece, Engine::cudnn, piece.queries, piece.keys, false});
    } else {
      work.push_back(
          {piece, Engine::cudnn, padded_length(piece.queries), padded_length(piece.keys), true});
    }
  }
  return work;
}

bool rows_are_disjoint(const std::vector<AttentionWork>& work) {
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const AttentionWork& w : work) {
    for (int64_t b = 0; b < w.piece.batch; ++b) {
      const int64_t begin = w.piece.query_begin + b * w.piece.query_step;
      ranges.emplace_back(begin, begin + w.piece.queries);
    }
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) return false;
  }
  return true;
}

int64_t key_chunks(const AttentionPiece& piece, int64_t heads, int64_t kv_heads,
                   int multiprocessors) {
  constexpr int64_t kSmallestChunk = 256;
  if (piece.causal || piece.queries >= kFewQueries) return 1;
  const int64_t rows = piece.queries * (heads / kv_heads);
  const int64_t blocks = ceil_divide(rows, kRowsOfBlock) * kv_heads * piece.batch;
  const int64_t wanted = ceil_divide(int64_t{4} * multiprocessors, blocks);
  return std::clamp<int64_t>(piece.keys / kSmallestChunk, 1, std::max<int64_t>(1, wanted));
}

bool cudnn_is_usable(int64_t version) {
  if (version / 10000 != 9)
    return false;  // the interface of another major version is not this one's
  if (version == 91000 || version == 91001) return false;  // wrong gradients
  if (version == 91400) return false;                      // wrong masks
  return version >= 90800;                                 // needed to describe a device
}

bool workspace_must_be_zeroed(int64_t version) { return version < 91800; }

std::string why_no_e4m3_attention(int arch, E4m3Output output) {
  if (arch < 90) {
    return message(
        "fp8 attention is not to be had on this GPU",
        concat("it needs compute capability 9.0 or more, and this has ", arch / 10, ".", arch % 10),
        "Try --attention-dtype bf16, or --device cpu for a small model.");
  }
  if (arch / 10 == 9 && output == E4m3Output::wide) {
    return message("fp8 attention with an output that is not fp8 is not to be had on this GPU",
                   "cuDNN has it from compute capability 10.0 on; on 9.0 its output is fp8, too",
                   "Try --attention-dtype fp8-output.");
  }
  return "";
}

}  // namespace ringbolt::cuda
