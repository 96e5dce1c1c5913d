// Compiled once an instruction set, with RINGBOLT_ISA naming it. Only headers without shared inline functions here.
#include "core/cpu/packing_kernels.h"

#include "core/cpu/simd.h"

namespace ringbolt::cpu {
namespace {

constexpr int64_t smaller_of(int64_t a, int64_t b) { return a < b ? a : b; }

template <class T>
constexpr int64_t kPerWord = 4 / static_cast<int64_t>(sizeof(T));

/// A vector of words along the depth, from one row; zeros behind its `n` elements.
template <class T>
RINGBOLT_SIMD Floats along_depth(const T* row, int64_t n) {
  Floats words{};
  if (n >= kLanes * kPerWord<T>) {
    __builtin_memcpy(&words, row, sizeof words);
  } else if (n > 0) {
    __builtin_memcpy(&words, row, static_cast<unsigned>(n) * sizeof(T));
  }
  return words;
}

RINGBOLT_SIMD Floats weave(const float* row, const float* /*none*/) { return load(row); }
RINGBOLT_SIMD Floats weave(const uint16_t* low, const uint16_t* high) {
  return as_floats(load_halves(low) | load_halves(high) << 16);
}

/// A word of each of kLanes columns, from kPerWord rows `stride` apart; zeros outside of (rows, columns).
template <class T>
RINGBOLT_SIMD Floats across_depth(const T* x, int64_t stride, int64_t rows, int64_t columns) {
  if (rows >= kPerWord<T> && columns >= kLanes) return weave(x, x + stride);
  T part[2][kLanes] = {};
  for (int64_t r = 0; r < smaller_of(rows, kPerWord<T>); ++r) {
    for (int64_t c = 0; c < smaller_of(columns, kLanes); ++c) part[r][c] = x[r * stride + c];
  }
  return weave(part[0], part[1]);
}

/// x and y interleaved: their lower halves, and their upper halves.
RINGBOLT_SIMD Floats interleave_low(Floats x, Floats y) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(x, y, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#else
  return __builtin_shufflevector(x, y, 0, 4, 1, 5);
#endif
}
RINGBOLT_SIMD Floats interleave_high(Floats x, Floats y) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(x, y, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#else
  return __builtin_shufflevector(x, y, 2, 6, 3, 7);
#endif
}

/// Transposes kLanes vectors: in each of log2(kLanes) rounds vector i and vector i + kLanes / 2 are interleaved.
RINGBOLT_SIMD void transpose(Floats (&x)[kLanes]) {
#pragma GCC unroll 4
  for (int round = 1; round < kLanes; round *= 2) {
    Floats y[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      y[2 * i] = interleave_low(x[i], x[i + kLanes / 2]);
      y[2 * i + 1] = interleave_high(x[i], x[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) x[i] = y[i];
  }
}

template <class T>
void pack_rows(const void* b, int64_t stride, int64_t depth, int64_t columns, void* panels, int64_t panel_words) {
  const auto* rows = static_cast<const T*>(b);
  auto* words = static_cast<float*>(panels);
  for (int64_t c = 0; c < columns; c += kPanelColumns, words += panel_words) {
    for (int64_t w = 0; w < kDepthWords; ++w) {
      const int64_t row = w * kPerWord<T>;
      for (int64_t i = 0; i < kPanelColumns; i += kLanes) {
        store(words + w * kPanelColumns + i,
              across_depth(rows + row * stride + c + i, stride, depth - row, columns - c - i));
      }
    }
  }
}

template <class T>
void pack_columns(const void* b, int64_t stride, int64_t depth, int64_t columns, void* panel, int64_t panel_words) {
  for (int64_t c = 0; c < kPanelColumns; c += kLanes) {
    const T* row = static_cast<const T*>(b) + c * stride;
    for (int64_t w = 0; w < panel_words / kPanelColumns; w += kLanes) {
      const int64_t done = w * kPerWord<T>;
      Floats block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        block[i] = along_depth(row + i * stride + done, c + i < columns ? depth - done : 0);
      }
      transpose(block);
      float* words = static_cast<float*>(panel) + w * kPanelColumns + c;
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) store(words + i * kPanelColumns, block[i]);
    }
  }
}

template <class T>
void transpose_rows(const void* x, int64_t stride, int64_t depth, int64_t columns, void* y, int64_t y_stride) {
  for (int64_t c = 0; c < columns; c += kLanes) {
    for (int64_t w = 0; w < kDepthWords; w += kLanes) {
      const int64_t first = w * kPerWord<T>;
      const T* from = static_cast<const T*>(x) + first * stride + c;
      Floats block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        const int64_t row = i * kPerWord<T>;
        for (int64_t r = row; r < row + kPerWord<T>; ++r)
          __builtin_prefetch(from + (kDepthWords * kPerWord<T> + r) * stride);
        block[i] = across_depth(from + row * stride, stride, depth - first - row, columns - c);
      }
      transpose(block);
      T* to = static_cast<T*>(y) + c * y_stride + first;
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        if (c + i < columns) store(reinterpret_cast<float*>(to + i * y_stride), block[i]);
      }
    }
  }
}

template <class T>
constexpr PackingOfType packing_of() {
  return {pack_rows<T>, pack_columns<T>, transpose_rows<T>};
}

constexpr PackingKernels kKernels{packing_of<float>(), packing_of<uint16_t>()};

}  // namespace

#define RINGBOLT_JOIN_(a, b) a##b
#define RINGBOLT_JOIN(a, b) RINGBOLT_JOIN_(a, b)

const PackingKernels& RINGBOLT_JOIN(packing_kernels_, RINGBOLT_ISA)() { return kKernels; }

}  // namespace ringbolt::cpu
