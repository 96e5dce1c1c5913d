#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "core/tensor/tensor.h"

namespace ringbolt {
namespace {

/// 0, 1, 2, …
std::vector<float> counting(int64_t n) {
  std::vector<float> values(static_cast<size_t>(n));
  std::iota(values.begin(), values.end(), 0.0F);
  return values;
}

TEST(Shape, CountsElementsOfRowsAndOfAll) {
  EXPECT_EQ(Shape({3, 4, 5}).elements(), 60);
  EXPECT_EQ(Shape({3, 4, 5}).row_elements(), 20);
  EXPECT_EQ(Shape({0, 4}).elements(), 0);
  EXPECT_EQ(Shape({7}).row_elements(), 1);
  EXPECT_EQ(Shape().elements(), 1);
  EXPECT_EQ(Shape({3, 4}).with_rows(9), (Shape{9, 4}));
  EXPECT_EQ(Shape({3, 4}).str(), "(3, 4)");
  EXPECT_NE(Shape({3, 4}), (Shape{3, 4, 1}));
  EXPECT_EQ(Shape({int64_t{1} << 20, int64_t{1} << 20}).elements(), int64_t{1} << 40);
}

TEST(View, SlicesRowsAndColumnsWithoutCopying) {
  std::vector<float> data = counting(24);
  const View x = View::of<float>(data.data(), {4, 6});
  const View rows = x.slice_rows(1, 3);
  EXPECT_EQ(rows.shape(), (Shape{2, 6}));
  EXPECT_EQ(rows.row<float>(1)[5], 17.0F);
  EXPECT_TRUE(rows.is_contiguous());
  const View columns = rows.slice_columns(2, 5);
  EXPECT_EQ(columns.shape(), (Shape{2, 3}));
  EXPECT_EQ(columns.row<float>(0)[0], 8.0F);
  EXPECT_EQ(columns.row<float>(1)[2], 16.0F);
  EXPECT_FALSE(columns.is_contiguous());
  columns.row<float>(1)[2] = -1.0F;
  EXPECT_EQ(data[16], -1.0F);
}

TEST(View, SlicesHeadsOfAFusedBuffer) {
  std::vector<float> data = counting(2 * 6 * 3);
  const View kv = View::of<float>(data.data(), {2, 6, 3});  // (T, 2K, D)
  const View v = kv.slice_columns(4, 6);
  EXPECT_EQ(v.shape(), (Shape{2, 2, 3}));
  EXPECT_EQ(v.row<float>(1)[0], 18.0F + 12.0F);
  EXPECT_EQ(v.row_stride(), 18);
}

TEST(View, ReshapesStridedRowsButKeepsTheirStride) {
  std::vector<float> data = counting(24);
  const View columns = View::of<float>(data.data(), {4, 6}).slice_columns(0, 4);
  const View heads = columns.reshape({4, 2, 2});
  EXPECT_EQ(heads.row<float>(3)[3], 21.0F);
  EXPECT_EQ(View::of<float>(data.data(), {4, 6}).reshape({2, 12}).row<float>(1)[0], 12.0F);
}

TEST(View, OfNothingIsEmpty) {
  std::vector<float> data(1);
  EXPECT_TRUE(View().empty());
  EXPECT_TRUE(View::of<float>(data.data(), {0, 5}).empty());
  EXPECT_EQ(View::of<float>(data.data(), {0, 5}).bytes_needed(), 0);
}

TEST(DType, KnowsItsSizeAndName) {
  EXPECT_EQ(size_of(DType::bf16), 2);
  EXPECT_EQ(size_of(DType::f32), 4);
  EXPECT_EQ(model_dtype("bf16"), DType::bf16);
  EXPECT_THROW(model_dtype("i32"), UsageError);
  EXPECT_THROW(model_dtype("float16"), UsageError);
}

}  // namespace
}  // namespace ringbolt
