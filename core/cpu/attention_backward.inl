// Blocked attention backward (FlashAttention-2, arXiv 2307.08691, algorithm 2) for one block of
// keys.
//
// Included by attention_kernels.cpp only. A lane is a key: k and v are packed transposed once, the
// sums dK and dV of the block stay in scratch, and tiles of query rows stream by, which need no
// transposition.
//   S = Q K^T, P = 2^(S - lse), dP = dO V^T, dS = P (dP - delta), dV += P^T dO, dK += dS^T Q, dQ +=
//   dS K.
#pragma once

#include "core/cpu/attention_kernels.h"
#include "core/cpu/attention_tile.inl"

namespace ringbolt::cpu {
namespace {

/// Keys of a block: as many as keep its sums and operands in the second cache level.
constexpr int backward_keys(int head_dim) { return head_dim <= 128 ? 192 : 96; }
constexpr int kMostBackwardKeys = backward_keys(2);
constexpr int kBackwardRows = 64;

/// y[i] += scale * x[i], i < n.
RINGBOLT_SIMD void add_scaled(const float* x, int n, float scale, float* y) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i) * scale + load(y + i));
  for (; i < n; ++i) y[i] += scale * x[i];
}

template <class In, class Product>
class Backward {
 public:
  static int64_t scratch_bytes(int head_dim) {
    Scratch scratch(nullptr);
    return Buffers(scratch, head_dim).bytes;
  }
  static void begin(const BackwardPiece& piece) { Backward(piece).begin(); }
  static void tile(const BackwardPiece& piece, int head, int64_t row_begin, int rows,
                   const KernelSlice& slice) {
    Backward(piece).tile(head, row_begin, rows, slice);
  }
  static void end(const BackwardPiece& piece) { Backward(piece).end(); }

 private:
  static constexpr int kPairs = Product::kPerWord;
  static constexpr int64_t kRowStep = kRowWords<Product>;
  /// Between rows of P and dS.
  static constexpr int64_t kScoreStep = kMostBackwardKeys + kLanes;
  static constexpr int64_t kNarrowStep = kMostBackwardKeys / 2 + kLanes;

  struct Buffers {
    Buffers(Scratch& s, int head_dim)
        : Buffers(s, head_dim, backward_keys(head_dim), round_up(head_dim, kLanes)) {}
    Buffers(Scratch& s, int64_t head_dim, int64_t block, int64_t padded_dim)
        : keys(s.floats(block * head_dim / kPairs)),
          values(s.floats(block * head_dim / kPairs)),
          key_rows(s.floats(block / kPairs * padded_dim)),
          dk(s.floats(block * padded_dim)),
          dv(s.floats(block * padded_dim)),
          q(s.floats(kBackwardRows * kRowStep)),
          dout(s.floats(kBackwardRows * kRowStep)),
          q_depth(kPairs == 1 ? q : s.floats(kBackwardRows / kPairs * kRowStep * 2)),
          dout_depth(kPairs == 1 ? dout : s.floats(kBackwardRows / kPairs * kRowStep * 2)),
          p(s.floats(kBackwardRows * kScoreStep)),
          ds(s.floats(kBackwardRows * kScoreStep)),
          p_depth(kPairs == 1 ? p : s.floats(kBackwardRows / kPairs * kScoreStep)),
          ds_depth(kPairs == 1 ? ds : s.floats(kBackwardRows / kPairs * kScoreStep)),
          ds_rows(kPairs == 1 ? ds : s.floats(kBackwardRows * kNarrowStep)),
          dq(s.floats(kTileRows * padded_dim)),
          lse(s.floats(kBackwardRows)),
          delta(s.floats(kBackwardRows)),
          limit(s.ints(kBackwardRows)),
          start(s.ints(kBackwardRows)),
          bytes(s.bytes()) {}
    float* keys;        // per panel (D words, lanes)
    float* values;      // per panel (D words, lanes)
    float* key_rows;    // (keys in words, D)
    float* dk;          // (keys, D)
    float* dv;          // (keys, D)
    float* q;           // (rows, D words) at kRowStep
    float* dout;        // (rows, D words)
    float* q_depth;     // (rows in words, D)
    float* dout_depth;  // (rows in words, D)
    float* p;           // (rows, keys): S, then P
    float* ds;          // (rows, keys): dP, then dS
    float* p_depth;     // (rows in words, keys)
    float* ds_depth;    // (rows in words, keys)
    float* ds_rows;     // (rows, keys in words)
    float* dq;          // (kTileRows, D)
    float* lse;         // (rows), in units of log2; +inf where a row sees no key at all
    float* delta;       // (rows)
    int32_t* limit;     // (rows): keys of the block that the row sees are [start, limit)
    int32_t* start;     // (rows)
    int64_t bytes;
  };

  explicit Backward(const BackwardPiece& piece) : Backward(piece, Scratch(piece.scratch)) {}
  Backward(const BackwardPiece& piece, Scratch scratch)
      : p_(piece),
        b_(scratch, piece.head_dim),
        vectors_((piece.keys + kLanes - 1) / kLanes),
        depth_(piece.head_dim / kPairs),
        dim_vectors_((piece.head_dim + kLanes - 1) / kLanes),
        dim_step_(round_up(piece.head_dim, kLanes)),
        score_scale_(piece.scale * 1.44269504088896340736F) {}

  void begin() {
    const In* k = static_cast<const In*>(p_.k) + p_.key_begin * p_.k_stride;
    const In* v = static_cast<const In*>(p_.v) + p_.key_begin * p_.v_stride;
    for_panels(vectors_, [&]<int V>(int first) {
      constexpr int kWidth = V * kLanes;
      for (int lane = 0; lane < kWidth; ++lane) {
        const int key = first * kLanes + lane;
        float* key_words = b_.keys + int64_t{first} * kLanes * depth_ + lane;
        float* value_words = b_.values + int64_t{first} * kLanes * depth_ + lane;
        if (key < p_.keys) {
          pack_column<Product>(k + key * p_.k_stride, p_.head_dim, key_words, kWidth);
          pack_column<Product>(v + key * p_.v_stride, p_.head_dim, value_words, kWidth);
        } else {
          for (int d = 0; d < depth_; ++d) key_words[d * kWidth] = value_words[d * kWidth] = 0;
        }
      }
    });
    pack_depth_rows<Product>(k, p_.k_stride, p_.keys, p_.head_dim, b_.key_rows, dim_step_);
    const int64_t n = round_up(p_.keys, kTileRows) * dim_step_;
    for (int64_t i = 0; i < n; ++i) b_.dk[i] = b_.dv[i] = 0;
  }

  void end() {
    for (int key = 0; key < p_.keys; ++key) {
      float* dk = p_.dk + (p_.key_begin + key) * p_.dk_stride;
      float* dv = p_.dv + (p_.key_begin + key) * p_.dv_stride;
      add_scaled(b_.dk + key * dim_step_, p_.head_dim, p_.scale, dk);
      add_scaled(b_.dv + key * dim_step_, p_.head_dim, 1, dv);
    }
  }

  void tile(int head, int64_t row_begin, int rows, const KernelSlice& s) {
    const int64_t key_end = p_.key_begin + p_.keys;
    int first = s.key_begin > p_.key_begin ? static_cast<int>(s.key_begin - p_.key_begin) : 0;
    const int last = static_cast<int>((s.key_end < key_end ? s.key_end : key_end) - p_.key_begin);
    // Rows from the first that sees a key of the block; the later ones see no fewer.
    const int64_t see_from = p_.key_begin + first + 1 - s.shift;
    int64_t begin = row_begin > s.query_begin ? row_begin : s.query_begin;
    begin = begin > see_from ? begin : see_from;
    int64_t end = row_begin + rows < s.query_end ? row_begin + rows : s.query_end;
    const int64_t see_until = p_.key_begin + last - s.left;  // later rows see none of the block
    end = end < see_until ? end : see_until;
    if (begin >= end || first >= last) return;
    const int64_t seen_from =
        begin + s.left - p_.key_begin;  // by the first row; later ones see later keys
    first = seen_from > first ? static_cast<int>(seen_from) : first;
    if (first >= last) return;
    const int n = static_cast<int>(end - begin);
    int most = 0;
    int least = last;
    for (int r = 0; r < kBackwardRows; ++r) {
      const int64_t seen = begin + r + s.shift - p_.key_begin;
      const int limit = r >= n ? 0 : (seen < last ? static_cast<int>(seen) : last);
      b_.limit[r] = limit;
      const int64_t start = begin + r + s.left - p_.key_begin;
      b_.start[r] = r < n && start > first ? static_cast<int>(start < last ? start : last) : first;
      most = limit > most ? limit : most;
      if (r < n) least = limit < least ? limit : least;
    }
    pack_rows(head, begin, n);
    const int first_vector = first / kLanes;
    const int end_vector = (most + kLanes - 1) / kLanes;
    const bool masked =
        first % kLanes != 0 || least < end_vector * kLanes || b_.start[n - 1] > first;
    ahead_ = begin + n;
    ahead_end_ = ahead_ + kBackwardRows < s.query_end ? ahead_ + kBackwardRows : s.query_end;
    ahead_head_ = head;
    scores(n, first_vector, end_vector, masked);
    const int first_row = static_cast<int>(first / kTileRows * kTileRows);
    key_gradients(n, first_row, most);
    query_gradients(head, begin, n, first / kPairs * kPairs);
  }

  void pack_rows(int head, int64_t begin, int n) {
    const In* q = static_cast<const In*>(p_.q) + begin * p_.q_stride + int64_t{head} * p_.head_dim;
    const In* dout =
        static_cast<const In*>(p_.dout) + begin * p_.dout_stride + int64_t{head} * p_.head_dim;
    const int padded = static_cast<int>(round_up(n, kTileRows));
    for (int r = 0; r < padded; ++r) {
      if (r < n) {
        pack_row<Product>(q + r * p_.q_stride, p_.head_dim, b_.q + r * kRowStep);
        pack_row<Product>(dout + r * p_.dout_stride, p_.head_dim, b_.dout + r * kRowStep);
        const float lse = p_.lse[(begin + r) * p_.lse_stride + head];
        b_.lse[r] = lse == -kInfinity ? kInfinity : lse * 1.44269504088896340736F;
        b_.delta[r] = lse == -kInfinity ? 0 : p_.delta[(begin + r) * p_.delta_stride + head];
      } else {
        for (int d = 0; d < depth_; ++d) b_.q[r * kRowStep + d] = b_.dout[r * kRowStep + d] = 0;
        b_.lse[r] = kInfinity;
        b_.delta[r] = 0;
      }
    }
    if constexpr (kPairs == 2) {
      pack_depth_rows<Product>(q, p_.q_stride, n, p_.head_dim, b_.q_depth, 2 * kRowStep);
      pack_depth_rows<Product>(dout, p_.dout_stride, n, p_.head_dim, b_.dout_depth, 2 * kRowStep);
    }
  }

  /// The first row of the tile that sees key `key` of the block. Requires: the last row sees it.
  int first_row_of(int key) const { return b_.limit[0] > key ? 0 : key + 1 - b_.limit[0]; }

  /// P and dS of rows [0, n) and the keys of vectors [first_vector, end_vector), but for the tiles
  /// that are hidden as a whole.
  void scores(int n, int first_vector, int end_vector, bool masked) {
    for_panels(vectors_, [&]<int V>(int panel) {
      constexpr int kWidth = V * kLanes;
      if (panel >= end_vector || panel + V <= first_vector) return;
      const float* keys = b_.keys + int64_t{panel} * kLanes * depth_;
      const float* values = b_.values + int64_t{panel} * kLanes * depth_;
      for (int r = first_row_of(panel * kLanes) / kTileRows * kTileRows; r < n; r += kTileRows) {
        prefetch_ahead();
        float* p = b_.p + r * kScoreStep + panel * kLanes;
        float* ds = b_.ds + r * kScoreStep + panel * kLanes;
        multiply_into<Product, V, kRowStep, Into::overwrite>(depth_, b_.q + r * kRowStep, 1, keys,
                                                             kWidth, p, kScoreStep);
        multiply_into<Product, V, kRowStep, Into::overwrite>(depth_, b_.dout + r * kRowStep, 1,
                                                             values, kWidth, ds, kScoreStep);
        probabilities<V>(r, panel, masked);
      }
    });
  }

  /// Fetches a few rows of the next tile while this one is worked on: rows lie H D apart, too far
  /// for the machine to foresee.
  void prefetch_ahead() {
    const int64_t stop = ahead_ + kTileRows / 2 < ahead_end_ ? ahead_ + kTileRows / 2 : ahead_end_;
    const int64_t offset = int64_t{ahead_head_} * p_.head_dim;
    const int64_t bytes = p_.head_dim * static_cast<int64_t>(sizeof(In));
    for (; ahead_ < stop; ++ahead_) {
      prefetch(static_cast<const In*>(p_.q) + ahead_ * p_.q_stride + offset, bytes);
      prefetch(static_cast<const In*>(p_.dout) + ahead_ * p_.dout_stride + offset, bytes);
      prefetch(p_.dq + ahead_ * p_.dq_stride + offset, p_.head_dim * 4);
    }
  }

  /// P from S and dS from dP, for kTileRows rows of a panel.
  template <int V>
  void probabilities(int row, int panel, bool masked) {
    for (int r = row; r < row + kTileRows; r += 2) {
      for (int n = 0; n < V; ++n) {
        const int key = (panel + n) * kLanes;
        Floats p[2];
        Floats ds[2];
        for (int i = 0; i < 2; ++i) {
          const Floats exponent =
              load(b_.p + (r + i) * kScoreStep + key) * score_scale_ - b_.lse[r + i];
          p[i] = exp2(
              smaller(Floats{},
                      exponent));  // no key outweighs all; rounding of huge logits must not say so
          ds[i] = p[i] * (load(b_.ds + (r + i) * kScoreStep + key) - b_.delta[r + i]);
          if (masked) {
            const Ints number = lane_numbers() + key;
            const Ints visible = (number >= b_.start[r + i]) & (number < b_.limit[r + i]);
            p[i] = select(visible, p[i], Floats{});
            ds[i] = select(visible, ds[i], Floats{});
          }
        }
        if constexpr (kPairs == 1) {
          for (int i = 0; i < 2; ++i) {
            store(b_.p + (r + i) * kScoreStep + key, p[i]);
            store(b_.ds + (r + i) * kScoreStep + key, ds[i]);
          }
        } else {
#if defined(__AVX512BF16__)
          store(b_.p_depth + r / 2 * kScoreStep + key, pair_lanes(p[0], p[1]));
          store(b_.ds_depth + r / 2 * kScoreStep + key, pair_lanes(ds[0], ds[1]));
          store_narrow(b_.ds_rows + r * kNarrowStep + key / 2, ds[0]);
          store_narrow(b_.ds_rows + (r + 1) * kNarrowStep + key / 2, ds[1]);
#endif
        }
      }
    }
  }

  /// dV += P^T dO and dK += dS^T Q for keys [first, most), first at a tile.
  void key_gradients(int n, int first, int most) {
    constexpr int64_t kDepthStep = kPairs * kRowStep;
    for_panels(dim_vectors_, [&]<int V>(int panel) {
      const int d = panel * kLanes;
      for (int key = first; key < most; key += kTileRows) {
        const int row = first_row_of(key) / kPairs;  // in words
        const int depth = (n + kPairs - 1) / kPairs - row;
        multiply_into<Product, V, 1, Into::accumulate>(
            depth, b_.p_depth + row * kScoreStep + key, kScoreStep,
            b_.dout_depth + row * kDepthStep + d, kDepthStep, b_.dv + key * dim_step_ + d,
            dim_step_);
        multiply_into<Product, V, 1, Into::accumulate>(
            depth, b_.ds_depth + row * kScoreStep + key, kScoreStep,
            b_.q_depth + row * kDepthStep + d, kDepthStep, b_.dk + key * dim_step_ + d, dim_step_);
      }
    });
  }

  /// dQ += scale * dS K over keys from `first` on, which is the first of a word.
  void query_gradients(int head, int64_t begin, int n, int first) {
    constexpr int64_t kStep = kPairs == 1 ? kScoreStep : kNarrowStep;
    const float* key_rows = b_.key_rows + first / kPairs * dim_step_;
    for (int row = 0; row < n; row += kTileRows) {
      const int seen = b_.limit[row + kTileRows < n ? row + kTileRows - 1 : n - 1];
      const int depth = (seen - first + kPairs - 1) / kPairs;
      for_panels(dim_vectors_, [&]<int V>(int panel) {
        const int d = panel * kLanes;
        multiply_into<Product, V, kStep, Into::overwrite>(
            depth, b_.ds_rows + row * kStep + first / kPairs, 1, key_rows + d, dim_step_, b_.dq + d,
            dim_step_);
      });
      for (int r = row; r < n && r < row + kTileRows; ++r) {
        float* dq = p_.dq + (begin + r) * p_.dq_stride + int64_t{head} * p_.head_dim;
        add_scaled(b_.dq + (r - row) * dim_step_, p_.head_dim, p_.scale, dq);
      }
    }
  }

  const BackwardPiece& p_;
  const Buffers b_;
  const int vectors_;
  const int depth_;  // D in words
  const int dim_vectors_;
  const int64_t dim_step_;
  const float score_scale_;
  int ahead_head_ = 0;  // rows [ahead_, ahead_end_) of this head are to be prefetched
  int64_t ahead_ = 0;
  int64_t ahead_end_ = 0;
};

}  // namespace
}  // namespace ringbolt::cpu
