// Blocked attention forward (FlashAttention-2, arXiv 2307.08691, algorithm 1) for one piece.
//
// Included by attention_kernels.cpp only. Everything is transposed: a lane is a column, that is one
// query row of one head, so that the softmax over keys runs vertically, without sums across lanes,
// and k and v are operands as they lie in memory. Columns are ordered head by head. A block of
// kForwardKeys keys is packed once for all columns.
//
// Of E4M3 codes, scores and their maxima are kept in units of log2, the maximum rounded up to an
// integer, so that a weight is rounded to the same value whatever the maximum was at its time: as
// long as it stays a normal number, which are those above 2^-14.
#pragma once

#include "core/cpu/attention_kernels.h"
#include "core/cpu/attention_tile.inl"

namespace ringbolt::cpu {
namespace {

constexpr int kForwardColumns = 192;
constexpr int kForwardKeys = 128;
static_assert(kForwardColumns % kLanes == 0);

template <class In>
constexpr bool kIsCodes = false;
template <>
constexpr bool kIsCodes<E4m3> = true;

/// A weight in [0, 1] to the nearest multiple of 2^-8 of an E4M3 value, ties to even.
RINGBOLT_SIMD Floats round_weight(Floats x) {
  constexpr float kSmallest = 0x1p-14F;  // that has four digits
  constexpr float kRound =
      96.0F;  // 1.5 * 2^6: floats there are 2^-17 apart, as smaller weights are
  const Ints bits = as_ints(x);
  const Ints normal = (bits + 0x7ffff + ((bits >> 20) & 1)) & ~0xfffff;
  return select(x < kSmallest, (x + kRound) - kRound, as_floats(normal));
}

template <class In, class Product>
class Forward {
 public:
  static int64_t scratch_bytes(int head_dim) {
    Scratch scratch(nullptr);
    return Buffers(scratch, head_dim).bytes;
  }

  static void run(const ForwardPiece& piece) {
    Scratch scratch(piece.scratch);
    Forward(piece, Buffers(scratch, piece.head_dim)).run();
  }

 private:
  static constexpr int kPairs = Product::kPerWord;
  static constexpr int64_t kKeyStep = kRowWords<Product>;

  struct Buffers {
    Buffers(Scratch& s, int head_dim)
        : queries(s.floats(int64_t{kForwardColumns} * head_dim / kPairs)),
          acc(s.floats(kForwardColumns * round_up(head_dim, kTileRows))),
          keys(s.floats(kForwardKeys * kKeyStep)),
          values(s.floats(kForwardKeys / kPairs * round_up(head_dim, kLanes))),
          scores(s.floats(int64_t{kForwardKeys} * kTileVectors * kLanes)),
          weights(s.floats(kPairs == 1 ? 0 : int64_t{kForwardKeys} / 2 * kTileVectors * kLanes)),
          row_max(s.floats(kForwardColumns)),
          row_sum(s.floats(kForwardColumns)),
          rescale(s.floats(int64_t{kTileVectors} * kLanes)),
          limit(s.ints(kForwardColumns)),
          start(s.ints(kForwardColumns)),
          seen(s.ints(kForwardColumns)),
          bytes(s.bytes()) {}
    float* queries;  // per panel (D words, lanes)
    float* acc;      // per panel (D, lanes): sum over keys of weights times v
    float* keys;     // (keys, D words) at kKeyStep
    float* values;   // (keys in words, D)
    float* scores;   // (keys, lanes) of one panel
    float* weights;  // (keys in words, lanes) of one panel, bf16 only
    float* row_max;  // (columns): largest score so far
    float* row_sum;  // (columns): sum over keys of weights, exp(scale (score - row_max))
    float* rescale;  // (lanes) of one panel
    int32_t* limit;  // (columns): the column sees keys [start, limit) of the block
    int32_t* start;  // (columns)
    int32_t* seen;   // (columns): whether the column has seen a key
    int64_t bytes;
  };

  Forward(const ForwardPiece& piece, const Buffers& buffers)
      : p_(piece),
        b_(buffers),
        columns_(piece.rows * piece.heads),
        vectors_((columns_ + kLanes - 1) / kLanes),
        depth_(piece.head_dim / kPairs),
        acc_rows_(static_cast<int>(round_up(piece.head_dim, kTileRows))),
        value_step_(round_up(piece.head_dim, kLanes)),
        scale_(kIsCodes<In> ? 0.693147180559945309417 : static_cast<double>(piece.scale)),
        score_scale_(piece.scale * 1.44269504088896340736F),
        exponent_scale_(kIsCodes<In> ? 1.0F : score_scale_),
        rows_ahead_((kTileRows * kTileVectors + vectors_ - 1) / vectors_) {}

  void run() {
    load_columns();
    for (int64_t i = 0; i < p_.n_slices; ++i) slice(p_.slices[i]);
    store_columns();
  }

  /// Calls body(column, head, row) in the order of columns.
  template <class Body>
  void for_columns(const Body& body) {
    for (int head = 0, column = 0; head < p_.heads; ++head) {
      for (int row = 0; row < p_.rows; ++row, ++column) body(column, head, p_.row_begin + row);
    }
  }

  /// First element and distance between rows, of the panel's part of `queries` or `acc`, for every
  /// column.
  template <class Body>
  void for_panel_columns(const Body& body) {
    for_panels(vectors_, [&]<int V>(int first) {
      const int begin = first * kLanes;
      const int end = begin + V * kLanes;
      for (int c = begin; c < end; ++c) body(c, begin, c - begin, V * kLanes);
    });
  }

  void load_columns() {
    for_panel_columns([&](int column, int begin, int lane, int width) {
      float* query = b_.queries + begin * depth_ + lane;
      float* acc = b_.acc + int64_t{begin} * acc_rows_ + lane;
      b_.row_max[column] = -kInfinity;
      b_.row_sum[column] = 0;
      b_.seen[column] = 0;
      for (int d = 0; d < acc_rows_; ++d) acc[d * width] = 0;
      if (column >= columns_) {
        for (int d = 0; d < depth_; ++d) query[d * width] = 0;
        return;
      }
      const int head = column / p_.rows;
      const int64_t row = p_.row_begin + column % p_.rows;
      pack_column<Product>(
          static_cast<const In*>(p_.q) + row * p_.q_stride + int64_t{head} * p_.head_dim,
          p_.head_dim, query, width);
      const float lse = p_.lse[row * p_.lse_stride + head];
      if (lse == -kInfinity) return;
      // What was seen so far is one key of weight exp(lse), whose value is out.
      const float weight = begin_row(column, lse);
      b_.row_sum[column] = weight;
      const float* out =
          static_cast<const float*>(p_.out) + row * p_.out_stride + int64_t{head} * p_.head_dim;
      const float factor = weight / p_.value_scale;
      for (int d = 0; d < p_.head_dim; ++d) acc[d * width] = out[d] * factor;
    });
  }

  /// Sets a column's row_max for what was seen so far; its weight beside that.
  float begin_row(int column, float lse) {
    if constexpr (kIsCodes<In>) {
      const double exponent = static_cast<double>(lse) / scale_;
      const double most = __builtin_ceil(exponent);
      b_.row_max[column] = static_cast<float>(most);
      return static_cast<float>(__builtin_exp2(exponent - most));
    } else {
      b_.row_max[column] = lse / p_.scale;
      const double rounding =
          static_cast<double>(lse) - static_cast<double>(b_.row_max[column]) * scale_;
      return 1 + static_cast<float>(rounding);
    }
  }

  void store_columns() {
    for_panel_columns([&](int column, int begin, int lane, int width) {
      if (column >= columns_ || b_.seen[column] == 0) return;
      const int head = column / p_.rows;
      const int64_t row = p_.row_begin + column % p_.rows;
      const float* acc = b_.acc + int64_t{begin} * acc_rows_ + lane;
      const float sum = b_.row_sum[column];
      const float inverse = p_.value_scale / sum;
      const int64_t at = row * p_.out_stride + int64_t{head} * p_.head_dim;
      if (p_.out_is_bf16) {
        Bf16* out = static_cast<Bf16*>(p_.out) + at;
        for (int d = 0; d < p_.head_dim; ++d) out[d] = narrow(acc[d * width] * inverse);
      } else {
        float* out = static_cast<float*>(p_.out) + at;
        for (int d = 0; d < p_.head_dim; ++d) out[d] = acc[d * width] * inverse;
      }
      p_.lse[row * p_.lse_stride + head] =
          static_cast<float>(static_cast<double>(b_.row_max[column]) * scale_ +
                             __builtin_log(static_cast<double>(sum)));
    });
  }

  void slice(const KernelSlice& s) {
    const int64_t first_key = s.key_begin > p_.key_begin ? s.key_begin : p_.key_begin;
    const int64_t first_row = s.query_begin > p_.row_begin ? s.query_begin : p_.row_begin;
    const int64_t first_seen = first_row + s.left;
    const int64_t first = first_seen > first_key ? first_seen : first_key;
    const int64_t last_key = s.key_end < p_.key_end ? s.key_end : p_.key_end;
    const int64_t row_end = p_.row_begin + p_.rows;
    const int64_t last_row = (s.query_end < row_end ? s.query_end : row_end) - 1;
    const int64_t last_seen = last_row + s.shift;
    const int64_t end = last_seen < last_key ? last_seen : last_key;
    // Keys that all rows of the piece see.
    const int64_t common =
        p_.row_begin < s.query_begin || row_end > s.query_end ? 0 : p_.row_begin + s.shift;
    const int64_t common_first = last_row + s.left;
    for (int64_t key = first; key < end; key += kForwardKeys) {
      const int count = static_cast<int>(end - key < kForwardKeys ? end - key : kForwardKeys);
      if (p_.poll != nullptr) p_.poll(p_.poll_with);
      pack_block(key, count);
      ahead_ = key + count;
      ahead_end_ = ahead_ + kForwardKeys < end ? ahead_ + kForwardKeys : end;
      if (key >= common_first && key + count <= common) {
        for_panels(vectors_, [&]<int V>(int vector) { panel<V>(vector * kLanes, count, false); });
      } else {
        set_limits(s, key, count);
        for_panels(vectors_, [&]<int V>(int vector) { masked_panel<V>(vector * kLanes); });
      }
    }
    for_columns([&](int column, int, int64_t row) {
      if (row < s.query_begin || row >= s.query_end) return;
      const int64_t from = row + s.left > first_key ? row + s.left : first_key;
      const int64_t to = row + s.shift < last_key ? row + s.shift : last_key;
      if (from < to) b_.seen[column] = 1;
    });
  }

  void pack_block(int64_t key, int count) {
    const In* k = static_cast<const In*>(p_.k) + key * p_.k_stride;
    for (int i = 0; i < count; ++i)
      pack_row<Product>(k + i * p_.k_stride, p_.head_dim, b_.keys + i * kKeyStep);
    pack_depth_rows<Product>(static_cast<const In*>(p_.v) + key * p_.v_stride, p_.v_stride, count,
                             p_.head_dim, b_.values, value_step_);
  }

  void set_limits(const KernelSlice& s, int64_t key, int count) {
    int32_t limit = 0;
    int32_t start = 0;
    for_columns([&](int column, int, int64_t row) {
      const int64_t visible = row < s.query_begin || row >= s.query_end ? 0 : row + s.shift - key;
      limit = static_cast<int32_t>(visible < 0 ? 0 : (visible > count ? count : visible));
      b_.limit[column] = limit;
      const int64_t hidden = row + s.left - key;
      start = static_cast<int32_t>(hidden < 0 ? 0 : (hidden > count ? count : hidden));
      b_.start[column] = start;
    });
    for (int c = columns_; c < vectors_ * kLanes; ++c) {
      b_.limit[c] = limit;
      b_.start[c] = start;
    }
  }

  /// Fetches a few rows of the next block of keys while this one is worked on: rows lie H D apart,
  /// too far for the machine to foresee.
  void prefetch_ahead() {
    const int64_t stop = ahead_ + rows_ahead_ < ahead_end_ ? ahead_ + rows_ahead_ : ahead_end_;
    const int64_t bytes = p_.head_dim * static_cast<int64_t>(sizeof(In));
    for (; ahead_ < stop; ++ahead_) {
      prefetch(static_cast<const In*>(p_.k) + ahead_ * p_.k_stride, bytes);
      prefetch(static_cast<const In*>(p_.v) + ahead_ * p_.v_stride, bytes);
    }
  }

  template <int V>
  void masked_panel(int begin) {
    int32_t least = kForwardKeys;
    int32_t most = 0;
    int32_t latest = 0;
    bool any = false;
    for (int c = begin; c < begin + V * kLanes; ++c) {
      latest = b_.start[c] > latest ? b_.start[c] : latest;
      any = any || b_.start[c] < b_.limit[c];
      least = b_.limit[c] < least ? b_.limit[c] : least;
      most = b_.limit[c] > most ? b_.limit[c] : most;
    }
    if (any) panel<V>(begin, most, least < most || latest > 0);
  }

  /// Merges the first `most` keys of the block into a panel of columns.
  template <int V>
  void panel(int begin, int most, bool masked) {
    constexpr int kWidth = V * kLanes;
    const float* queries = b_.queries + begin * depth_;
    for (int key = 0; key < most; key += kTileRows) {
      prefetch_ahead();
      multiply_into<Product, V, kKeyStep, Into::overwrite>(
          depth_, b_.keys + key * kKeyStep, 1, queries, kWidth, b_.scores + key * kWidth, kWidth);
    }
    softmax<V>(begin, most, masked);
    const float* weights = kPairs == 1 ? b_.scores : b_.weights;
    float* acc = b_.acc + int64_t{begin} * acc_rows_;
    const int depth = (most + kPairs - 1) / kPairs;
    for (int d = 0; d < acc_rows_; d += kTileRows) {
      multiply_into<Product, V, 1, Into::rescale>(depth, b_.values + d, value_step_, weights,
                                                  kWidth, acc + d * kWidth, kWidth, b_.rescale);
    }
  }

  /// Turns the panel's scores of `keys` keys into weights exp(scale (score - row_max)), moves
  /// row_max and row_sum on, and leaves in `rescale` what the sums over earlier keys must be
  /// multiplied by.
  template <int V>
  void softmax(int begin, int keys, bool masked) {
    constexpr int kWidth = V * kLanes;
    Vectors<V> most;
    Vectors<V> base;
    Vectors<V> sum;
    for (int n = 0; n < V; ++n) most[n] = broadcast(-kInfinity);
    for (int key = 0; key < keys; ++key) {
      float* row = b_.scores + key * kWidth;
      for (int n = 0; n < V; ++n) {
        Floats x = load(row + n * kLanes);
        if constexpr (kIsCodes<In>) {
          x = x * score_scale_;
          store(row + n * kLanes, x);
        }
        if (masked) {
          const Ints number = broadcast(key);
          const Ints visible = (load(b_.limit + begin + n * kLanes) > number) &
                               (load(b_.start + begin + n * kLanes) <= number);
          x = select(visible, x, broadcast(-kInfinity));
          store(row + n * kLanes, x);
        }
        most[n] = larger(x, most[n]);
      }
    }
    for (int n = 0; n < V; ++n) {
      float* row_max = b_.row_max + begin + n * kLanes;
      const Floats old = load(row_max);
      const Floats now = larger(kIsCodes<In> ? ceiling(most[n]) : most[n], old);
      store(row_max, now);
      // A column that has seen nothing has row_max -inf; its scores are all -inf, and exp(-inf - 0)
      // = 0.
      base[n] = select(now == -kInfinity, Floats{}, now);
      store(b_.rescale + n * kLanes, exp2((old - base[n]) * exponent_scale_));
      sum[n] = Floats{};
    }
    weigh<V>(keys, base, sum);
    for (int n = 0; n < V; ++n) {
      float* row_sum = b_.row_sum + begin + n * kLanes;
      store(row_sum, load(row_sum) * load(b_.rescale + n * kLanes) + sum[n]);
    }
  }

  template <int V>
  void weigh(int keys, const Vectors<V>& base, Vectors<V>& sum) {
    constexpr int kWidth = V * kLanes;
    const auto weight = [&](int key, int n) {
      return exp2((load(b_.scores + key * kWidth + n * kLanes) - base[n]) * exponent_scale_);
    };
    if constexpr (kPairs == 1) {
      for (int key = 0; key < keys; ++key) {
        for (int n = 0; n < V; ++n) {
          const Floats x = weight(key, n);
          sum[n] += x;
          store(b_.scores + key * kWidth + n * kLanes, kIsCodes<In> ? round_weight(x) : x);
        }
      }
    } else {
#if defined(__AVX512BF16__)
      for (int key = 0; key < keys; key += 2) {
        for (int n = 0; n < V; ++n) {
          const Floats low = weight(key, n);
          const Floats high = key + 1 < keys ? weight(key + 1, n) : Floats{};
          sum[n] += low + high;
          store(b_.weights + key / 2 * kWidth + n * kLanes,
                kIsCodes<In> ? pair_lanes(round_weight(low), round_weight(high))
                             : pair_lanes(low, high));
        }
      }
#endif
    }
  }

  const ForwardPiece& p_;
  const Buffers b_;
  const int columns_;
  const int vectors_;
  const int depth_;  // D in words
  const int acc_rows_;
  const int64_t value_step_;
  const double scale_;          // from row_max to natural logarithms
  const float score_scale_;     // from scores to powers of two
  const float exponent_scale_;  // the same, from scores as softmax() keeps them
  const int64_t rows_ahead_;    // a call of prefetch_ahead
  int64_t ahead_ = 0;           // keys [ahead_, ahead_end_) are to be prefetched
  int64_t ahead_end_ = 0;
};

}  // namespace
}  // namespace ringbolt::cpu
