// Every operation on tensors of more than 2^31 elements: a million tokens of a 4K-wide model have
// 2^32. Rows at the beginning, around elements 2^29, 2^30 and 2^31, and at the end have the bits of
// the same rows alone. Sums over all rows are of whole numbers, exact in f32 in whatever order.
//
// On a GPU these always run, and take 20 GiB of its memory at most. On the CPU and the emulated
// device they run where RINGBOLT_LARGE_TENSORS is set; the latter then wants
// RINGBOLT_EMULATED_CUDA_GIB=21.
#include <cmath>
#include <cstring>
#include <utility>

#include <gtest/gtest.h>

#include "tests/core/backend/large_tensors.h"

namespace ringbolt {
namespace {

using namespace testing_support;

constexpr int64_t kHeads = 27, kHeadDim = 152;  // of rotary and what goes with it
constexpr int64_t kWidth = kHeads * kHeadDim;   // 4104: vectors of 16 bytes, no power of two
constexpr PatternValues kWhole{-2, 2, true};

class LargeTensors : public LargeTest {};

TEST_P(LargeTensors, AreConverted) {
  const Pattern x = of({1, kWidth}, 1);
  const Pattern y(backend(), dtype() == DType::f32 ? DType::bf16 : DType::f32, {1, kWidth}, 2);
  expect_alike({{&x, Role::input}, {&y, Role::result}},
               [&](auto& v) { backend().convert(v[0], v[1]); });
}

TEST_P(LargeTensors, AreFilledDownloadedAndUploaded) {
  const Pattern pattern = of({1, kWidth}, 1);
  const int64_t rows = rows_beyond(kWidth);
  Tensor x = pattern.rows({0, rows});
  const std::vector<std::byte> host = bytes_of(backend(), x);
  backend().fill_zero(x);
  const auto windows = windows_of(rows, kWidth, 5);
  for (const auto& [begin, end] : windows) {
    const std::vector<std::byte> zero = bytes_of(backend(), x.view().slice_rows(begin, end));
    EXPECT_EQ(zero, std::vector<std::byte>(zero.size())) << begin;
  }
  backend().upload(host.data(), x);
  for (const auto& [begin, end] : windows)
    EXPECT_TRUE(same_bits(backend(), x.view().slice_rows(begin, end), pattern.rows({begin, end})));
  // Strided rows: two columns of ten.
  const ConstView strided = x.view().reshape({rows, kWidth / 8, 8}).slice_columns(3, 5);
  const std::vector<std::byte> columns = bytes_of(backend(), strided);
  const auto row_bytes = static_cast<size_t>(strided.row_elements() * size_of(dtype()));
  for (int64_t row : {int64_t{0}, rows / 2, rows - 1}) {
    const auto from =
        static_cast<size_t>(row) * host.size() / static_cast<size_t>(rows) + 3 * row_bytes / 2;
    EXPECT_EQ(std::memcmp(&columns[static_cast<size_t>(row) * row_bytes], &host[from], row_bytes),
              0);
  }
}

TEST_P(LargeTensors, AreAdded) {
  if (dtype() != DType::f32) GTEST_SKIP() << "of f32 only";
  const Pattern x = f32({1, kWidth}, 1), y = f32({1, kWidth}, 2);
  expect_alike({{&x, Role::input}, {&y, Role::result}},
               [&](auto& v) { backend().add(v[0], v[1]); });
}

TEST_P(LargeTensors, AreRotated) {
  const Pattern x = of({1, kHeads, kHeadDim}, 1);
  const Pattern cos = f32({1, 64}, 2), sin = f32({1, 64}, 3), scale = f32({1}, 4);
  for (const RotaryPairing pairing : {RotaryPairing::half_split, RotaryPairing::interleaved}) {
    expect_alike(
        {{&x, Role::result}, {&cos, Role::input}, {&sin, Role::input}, {&scale, Role::input}},
        [&](auto& v) {
          backend().rotary(v[0], v[1], v[2], pairing, RotaryDirection::forward, v[3]);
        });
    expect_alike({{&x, Role::input}, {&cos, Role::result}},
                 [&](auto& v) { backend().rotary_angle_backward(v[0], v[0], pairing, v[1]); });
  }
}

TEST_P(LargeTensors, PassSwiGlu) {
  const Pattern gate_up = of({1, kWidth}, 1), half = of({1, kWidth / 2}, 2);
  expect_alike({{&gate_up, Role::input}, {&half, Role::result}},
               [&](auto& v) { backend().swiglu_forward(v[0], v[1]); });
  expect_alike({{&gate_up, Role::result}, {&half, Role::input}},
               [&](auto& v) { backend().swiglu_backward(v[1], v[0]); });
}

TEST_P(LargeTensors, AreNormalised) {
  const Pattern x = of({1, kWidth}, 1), y = of({1, kWidth}, 2), rstd = f32({1}, 3);
  const Tensor weight = of({1, kWidth}, 4).rows({0, 1});
  expect_alike({{&x, Role::input}, {&y, Role::result}, {&rstd, Role::result}}, [&](auto& v) {
    backend().rms_norm_forward(v[0], weight.view().reshape({kWidth}), 1e-5F, v[1], v[2]);
  });
}

TEST_P(LargeTensors, PassBackThroughNorms) {
  const Pattern x = of({1, kWidth}, 1, kWhole), dx = of({1, kWidth}, 2),
                rstd = f32({1}, 3, {1, 2, true});
  const Tensor weight = of({1, kWidth}, 4).rows({0, 1});
  std::vector<float> sums;
  expect_alike({{&x, Role::input}, {&dx, Role::result}, {&rstd, Role::input}}, [&](auto& v) {
    Tensor dweight = zeros(DType::f32, {kWidth});
    backend().rms_norm_backward(v[0], v[0], weight.view().reshape({kWidth}), v[2], v[1], dweight);
    if (sums.empty()) sums = download_f32(backend(), dweight);
  });
  EXPECT_TRUE(equal_each(sums, [&](int64_t i) {
    return sum_over_rows(rows_beyond(kWidth), [&](int64_t row) {
      return x.at(row, i) * x.at(row, i) * rstd.at(row, 0);
    });
  }));
}

TEST_P(LargeTensors, GiveSumsOfColumns) {
  const Pattern x = of({1, kWidth}, 1, kWhole);
  const int64_t rows = rows_beyond(kWidth);
  const Tensor whole = x.rows({0, rows});
  const auto sum = [&](int64_t i) {
    return sum_over_rows(rows, [&](int64_t row) { return x.at(row, i); });
  };
  Tensor dbias = zeros(DType::f32, {kWidth});
  backend().bias_backward(whole, dbias);
  EXPECT_TRUE(equal_each(download_f32(backend(), dbias), sum));
  Tensor means = backend().allocate(DType::f32, {kHeads, kHeadDim});
  backend().column_means(whole.view().reshape({rows, kHeads, kHeadDim}), means);
  const std::vector<float> got = download_f32(backend(), means);
  for (int64_t i = 0; i < kWidth; ++i)  // one division, or one product with the count's inverse
    ASSERT_NEAR(static_cast<double>(got[static_cast<size_t>(i)]),
                sum(i) / static_cast<double>(rows), 1e-6);
}

TEST_P(LargeTensors, AreEmbedded) {
  constexpr int64_t kVocabulary = 7;
  const Tensor table = of({1, kWidth}, 1).rows({0, kVocabulary});
  const Pattern y = of({1, kWidth}, 2, kWhole), id = ids(kVocabulary, 3);
  expect_alike({{&y, Role::result}, {&id, Role::input}},
               [&](auto& v) { backend().embedding_forward(table, v[1], v[0]); });
  std::vector<float> sums;
  expect_alike({{&y, Role::input}, {&id, Role::input}}, [&](auto& v) {
    Tensor dtable = zeros(DType::f32, {kVocabulary, kWidth});
    backend().embedding_backward(v[0], v[1], dtable);
    if (sums.empty()) sums = download_f32(backend(), dtable);
  });
  EXPECT_TRUE(equal_each(sums, [&](int64_t i) {
    return sum_over_rows(rows_beyond(kWidth), [&](int64_t row) {
      return static_cast<int64_t>(id.at(row, 0)) == i / kWidth ? y.at(row, i % kWidth) : 0;
    });
  }));
}

TEST_P(LargeTensors, AreTablesOfEmbeddings) {
  const Pattern pattern = of({1, kWidth}, 1);
  const int64_t rows = rows_beyond(kWidth);
  const auto windows = windows_of(rows, kWidth, 5);
  std::vector<int32_t> wanted_rows;
  for (const auto& [begin, end] : windows)
    for (int64_t row = begin; row < end; ++row) wanted_rows.push_back(static_cast<int32_t>(row));
  const auto count = static_cast<int64_t>(wanted_rows.size());
  const Tensor ids_of_rows = upload_new(backend(), DType::i32, {count}, wanted_rows.data());
  Tensor y = backend().allocate(dtype(), {count, kWidth});
  {
    const Tensor table = pattern.rows({0, rows});
    backend().embedding_forward(table, ids_of_rows, y);
  }
  Tensor dtable = zeros(DType::f32, {rows, kWidth});
  backend().embedding_backward(y, ids_of_rows, dtable);
  for (size_t i = 0; i < windows.size(); ++i) {
    const auto [begin, end] = windows[i];
    const auto at = static_cast<int64_t>(i) * 5;
    const Tensor expected = pattern.rows({begin, end});
    EXPECT_TRUE(same_bits(backend(), y.view().slice_rows(at, at + 5), expected)) << begin;
    Tensor wide = backend().allocate(DType::f32, expected.shape());
    backend().convert(expected, wide);
    EXPECT_TRUE(same_bits(backend(), dtable.view().slice_rows(begin, end), wide)) << begin;
  }
}

TEST_P(LargeTensors, HaveCrossEntropies) {
  const Pattern logits = f32({1, kWidth}, 1, {-4, 4}), losses = f32({1}, 2);
  const Pattern target = ids(kWidth, 3), hits = ids(9, 4);
  const Pattern gradient(backend(), DType::bf16, {1, kWidth}, 5);
  const auto run = [&](auto& v, View to) {
    backend().cross_entropy({v[0], v[1], v[2], v[3], to}, 0.125F);
  };
  if (dtype() == DType::f32) {  // in the logits' place
    expect_alike({{&logits, Role::result},
                  {&target, Role::input},
                  {&losses, Role::result},
                  {&hits, Role::result}},
                 [&](auto& v) { run(v, v[0]); });
  } else {
    expect_alike({{&logits, Role::input},
                  {&target, Role::input},
                  {&losses, Role::result},
                  {&hits, Role::result},
                  {&gradient, Role::result}},
                 [&](auto& v) { run(v, v[4]); });
  }
}

TEST_P(LargeTensors, AreOptimized) {
  if (dtype() == DType::f32) {
    const Pattern x = f32({1, kWidth}, 1, kWhole);
    const int64_t rows = rows_beyond(kWidth);
    const Tensor whole = x.rows({0, rows});
    double expected = 0;
    for (int64_t i = 0; i < kWidth; ++i)
      expected += sum_over_rows(rows, [&](int64_t row) { return x.at(row, i) * x.at(row, i); });
    EXPECT_EQ(backend().sum_of_squares(whole.view().reshape({rows * kWidth})), expected);
  }
  // Five operands: more than 2^32 bytes each of f32, half the elements of the other tests.
  const Pattern gradient = f32({1, kWidth}, 1), master = f32({1, kWidth}, 2),
                m = f32({1, kWidth}, 3);
  const Pattern v = f32({1, kWidth}, 4, {0, 1});
  const Pattern weight = of({1, kWidth}, 5);
  const AdamWStep step{1e-3F, 0.9F, 0.95F, 1e-8F, 0.1F, 0.5F, 3};
  const auto run = [&](RowRange range) {
    Tensor g = gradient.rows(range);
    std::vector<Tensor> x;
    for (const Pattern* p : {&master, &m, &v}) x.push_back(p->rows(range));
    if (dtype() == DType::bf16) x.push_back(weight.rows(range));
    const int64_t n = g.shape().elements();
    const auto flat = [&](Tensor& t) { return t.view().reshape({n}); };
    backend().adamw(step, flat(g), flat(x[0]), flat(x[1]), flat(x[2]),
                    flat(x[dtype() == DType::bf16 ? 3 : 0]));
    return x;
  };
  const int64_t rows = (int64_t{1} << 30) / kWidth + 70;
  std::vector<Tensor> whole = run({0, rows});
  for (const RowRange& window : windows_of(rows, kWidth, 5)) {
    const std::vector<Tensor> part = run(window);
    for (size_t i = 0; i < part.size(); ++i)
      EXPECT_TRUE(
          same_bits(backend(), whole[i].view().slice_rows(window.first, window.second), part[i]))
          << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, LargeTensors, testing::ValuesIn(large_cases()), case_name);

}  // namespace
}  // namespace ringbolt
