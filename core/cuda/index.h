// How kernels cut their work: grids, vector widths, pieces of reductions. Apart from the launches,
// so that the CPU tests prove that every element is met exactly once. All sizes are 64-bit; what
// CUDA limits is limited here.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "core/base/host_device.h"

namespace ringbolt::cuda {

inline constexpr int kThreads = 256;          ///< of a block, in all kernels but matrix tiles
inline constexpr int kAccessBytes = 16;       ///< the widest load or store of a thread
inline constexpr int64_t kMostGridY = 65535;  ///< CUDA's limit for the second dimension

RINGBOLT_HD constexpr int64_t ceil_divide(int64_t n, int64_t by) { return (n + by - 1) / by; }
RINGBOLT_HD constexpr int64_t round_up(int64_t n, int64_t to) { return ceil_divide(n, to) * to; }

/// A matrix operand of a kernel: where its first element lies, and the bytes from row to row.
struct Operand {
  uint64_t address;
  int64_t row_stride_bytes;  ///< 0 where there is one row only
  int element_bytes;
};

/// Whether rows of `row_elements` may be read and written `vector` elements at a time in all
/// operands: every vector then starts at a multiple of its size, or of 16 bytes where it is larger.
constexpr bool fits_vectors(std::initializer_list<Operand> operands, int64_t row_elements,
                            int vector) {
  if (row_elements % vector != 0) return false;
  for (const Operand& o : operands) {
    const int64_t bytes = static_cast<int64_t>(vector) * o.element_bytes;
    const int64_t access = bytes < kAccessBytes ? bytes : kAccessBytes;
    if (o.address % static_cast<uint64_t>(access) != 0 || o.row_stride_bytes % access != 0)
      return false;
  }
  return true;
}

/// A grid over rows x vectors of a row. Thread (x, y) of block (bx, by) has vector bx * threads_x +
/// x of the rows by * threads_y + y + i * blocks_y * threads_y for i = 0, 1, …
struct RowGrid {
  int threads_x;
  int threads_y;
  int64_t blocks_x;
  int64_t blocks_y;
};

constexpr RowGrid row_grid(int64_t rows, int64_t vectors) {
  int x = 1;
  while (x < vectors && x < kThreads) x *= 2;
  const int y = kThreads / x;
  const int64_t blocks_y = ceil_divide(rows, y);
  return {x, y, ceil_divide(vectors, x), blocks_y < kMostGridY ? blocks_y : kMostGridY};
}

/// Rows cut into at most `most` pieces of equal size (but the last), by the rows alone: sums over
/// pieces have the same bits on every device.
struct RowPieces {
  int64_t rows_of_piece;
  int64_t pieces;
};

constexpr RowPieces row_pieces(int64_t rows, int64_t most) {
  if (rows == 0) return {0, 0};
  const int64_t each = ceil_divide(rows, most);
  return {each, ceil_divide(rows, each)};
}

/// How a block of kThreads holds one row in registers: chunks of kThreads vectors. 0: it does not,
/// and reads it again.
constexpr int row_chunks(int64_t vectors) {
  for (int chunks = 1; chunks <= 8; chunks *= 2) {
    if (vectors <= static_cast<int64_t>(chunks) * kThreads) return chunks;
  }
  return 0;
}

/// Threads of a warp that share one row of `vectors` vectors: a power of two, at most 32.
constexpr int row_lanes(int64_t vectors) {
  int lanes = 1;
  while (lanes < vectors && lanes < 32) lanes *= 2;
  return lanes;
}

}  // namespace ringbolt::cuda
