#include "core/cuda/index.h"

#include <gtest/gtest.h>

#include <vector>

namespace ringbolt::cuda {
namespace {

/// Runs the loop of every thread of a grid as the kernels do, counting visits.
std::vector<int> visits(int64_t rows, int64_t vectors) {
  const RowGrid g = row_grid(rows, vectors);
  std::vector<int> count(static_cast<size_t>(rows * vectors), 0);
  for (int64_t by = 0; by < g.blocks_y; ++by) {
    for (int64_t bx = 0; bx < g.blocks_x; ++bx) {
      for (int y = 0; y < g.threads_y; ++y) {
        for (int x = 0; x < g.threads_x; ++x) {
          const int64_t column = bx * g.threads_x + x;
          if (column >= vectors) continue;
          for (int64_t row = by * g.threads_y + y; row < rows; row += g.blocks_y * g.threads_y) {
            ++count[static_cast<size_t>(row * vectors + column)];
          }
        }
      }
    }
  }
  return count;
}

TEST(RowGrids, MeetEveryVectorOnce) {
  for (const int64_t rows : {1, 2, 7, 255, 257, 70000}) {
    for (const int64_t vectors : {1, 2, 3, 31, 32, 33, 255, 256, 257, 600}) {
      if (rows * vectors > 3'000'000) continue;
      const RowGrid g = row_grid(rows, vectors);
      EXPECT_LE(g.threads_x * g.threads_y, kThreads);
      EXPECT_LE(g.blocks_y, kMostGridY);
      for (const int n : visits(rows, vectors)) ASSERT_EQ(n, 1) << rows << " x " << vectors;
    }
  }
}

TEST(RowGrids, StayWithinTheLimitsOfADeviceAtAMillionTokens) {
  const int64_t tokens = int64_t{1} << 20;
  const RowGrid heads = row_grid(tokens * 64, 16);  // rotary: a row a head
  EXPECT_LE(heads.blocks_y, kMostGridY);
  EXPECT_LE(heads.blocks_x, (int64_t{1} << 31) - 1);
  const RowGrid flat = row_grid(1, tokens * 11008 / 8);
  EXPECT_LE(flat.blocks_x, (int64_t{1} << 31) - 1);
  EXPECT_EQ(flat.blocks_y, 1);
}

TEST(Vectors, NeedWholeRowsAndAlignedStarts) {
  const Operand aligned{4096, 512, 2};
  EXPECT_TRUE(fits_vectors({aligned, aligned}, 64, 8));
  EXPECT_FALSE(fits_vectors({aligned}, 65, 8)) << "a row ends within a vector";
  EXPECT_FALSE(fits_vectors({aligned, {4098, 512, 2}}, 64, 8)) << "the address";
  EXPECT_FALSE(fits_vectors({{4096, 518, 2}}, 64, 8)) << "the second row's address";
  EXPECT_TRUE(fits_vectors({{4096, 0, 2}}, 64, 8)) << "there is no second row";
  EXPECT_TRUE(fits_vectors({{4096 + 16, 512, 4}}, 64, 8)) << "32 bytes are two accesses of 16";
  EXPECT_TRUE(fits_vectors({{4096 + 8, 512, 2}}, 64, 4)) << "8 bytes are one access of 8";
  EXPECT_FALSE(fits_vectors({{4096 + 4, 512, 2}}, 64, 4));
}

TEST(Pieces, CoverAllRowsAndDependOnNothingElse) {
  for (const int64_t rows : {1, 2, 511, 512, 513, 1024, 1025, 100003}) {
    const RowPieces p = row_pieces(rows, 512);
    EXPECT_LE(p.pieces, 512);
    EXPECT_GE(p.pieces * p.rows_of_piece, rows);
    EXPECT_LT((p.pieces - 1) * p.rows_of_piece, rows) << "no piece is empty";
  }
  EXPECT_EQ(row_pieces(0, 512).pieces, 0);
}

TEST(Chunks, HoldTheRowWhereTheyPromiseTo) {
  for (int64_t vectors = 1; vectors <= 8 * kThreads; vectors += 13) {
    EXPECT_GE(int64_t{row_chunks(vectors)} * kThreads, vectors);
  }
  EXPECT_EQ(row_chunks(8 * kThreads + 1), 0);
  EXPECT_EQ(row_chunks(4096 / 8), 2);  // E of 7B, bf16
}

TEST(Lanes, ArePowersOfTwoThatFitAWarp) {
  EXPECT_EQ(row_lanes(1), 1);
  EXPECT_EQ(row_lanes(10), 16);  // D = 80 in vectors of 8
  EXPECT_EQ(row_lanes(16), 16);
  EXPECT_EQ(row_lanes(17), 32);
  EXPECT_EQ(row_lanes(256), 32);
}

}  // namespace
}  // namespace ringbolt::cuda
