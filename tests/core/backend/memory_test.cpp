// Memory, conversions, reductions and the optimizer of every device.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/backend_cases.h"
#include "tests/support/compare.h"
#include "tests/support/placed.h"
#include "tests/support/reference/attention.h"
#include "tests/support/reference/row_wise.h"

namespace ringbolt {
namespace {

using namespace testing_support;
using reference::Values;

class MemoryOps : public BackendTest {};

TEST_P(MemoryOps, CountsWhatIsLiveAndItsPeak) {
  const int64_t before = backend().memory().live_bytes;
  const int64_t bytes = 1000 * 1000 * size_of(dtype());
  {
    Tensor a = backend().allocate(dtype(), {1000, 1000});
    Tensor b = backend().allocate(dtype(), {1000, 1000});
    EXPECT_GE(backend().memory().live_bytes - before, 2 * bytes);
    EXPECT_LE(backend().memory().live_bytes - before, 2 * bytes + 2 * 4096)
        << "rounding up is small";
  }
  EXPECT_EQ(backend().memory().live_bytes, before);
  EXPECT_GE(backend().memory().peak_bytes - before, 2 * bytes);
  backend().reset_peak_memory();
  EXPECT_EQ(backend().memory().peak_bytes, before);
}

TEST_P(MemoryOps, RefusesMoreMemoryThanThereIs) {
  EXPECT_THROW(static_cast<void>(backend().allocate(dtype(), {int64_t{1} << 30, int64_t{1} << 20})),
               DeviceError);
}

TEST_P(MemoryOps, ConvertsAsTheBf16TypeDoesAndBackExactly) {
  Values values = random_values(1, 997, -1e3, 1e3);
  const double infinity = std::numeric_limits<double>::infinity();
  const Values special = {0.0,     -0.0,     infinity, -infinity, 1 + 0x1p-8, 1 + 0x1p-7 + 0x1p-8,
                          3.39e38, 0x1p-130, 0x1p-149};
  values.insert(values.end(), special.begin(), special.end());
  const auto n = static_cast<int64_t>(values.size());
  for (int64_t padding : {0, 3}) {
    Placed wide(backend(), DType::f32, {2, n / 2}, values, padding),
        narrow(backend(), DType::bf16, {2, n / 2}, padding);
    Placed back(backend(), DType::f32, {2, n / 2}, padding);
    backend().convert(wide, narrow);
    backend().convert(narrow, back);
    EXPECT_EQ(back.read(), rounded_to(DType::bf16, values));
    EXPECT_TRUE(narrow.padding_intact() && back.padding_intact());
    Placed copy(backend(), DType::bf16, {2, n / 2}, padding + 1);
    backend().convert(narrow, copy);
    EXPECT_EQ(copy.read(), narrow.read());
  }
}

TEST_P(MemoryOps, ConvertsNansToNans) {
  const Values nans(37, std::numeric_limits<double>::quiet_NaN());
  Placed wide(backend(), DType::f32, {37}, nans), narrow(backend(), DType::bf16, {37});
  backend().convert(wide, narrow);
  const Values back = narrow.read();
  EXPECT_TRUE(std::all_of(back.begin(), back.end(), [](double x) { return std::isnan(x); }));
}

TEST_P(MemoryOps, AddsWithOneRounding) {
  for (const int64_t rows : {int64_t{2}, int64_t{700}}) {
    for (const int64_t padding : {0, 3}) {
      const int64_t n = rows * 333;
      const Values x = rounded_to(DType::f32, random_values(1, n));
      const Values y = rounded_to(DType::f32, random_values(2, n));
      Values sum(x);
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += y[i];
      Placed px(backend(), DType::f32, {rows, 333}, x, 2 * padding),
          py(backend(), DType::f32, {rows, 333}, y, padding);
      backend().add(px, py);
      EXPECT_EQ(py.read(), rounded_to(DType::f32, sum));
      EXPECT_TRUE(py.padding_intact());
    }
  }
}

TEST_P(MemoryOps, FillsStridedRowsWithZerosAndNothingElse) {
  for (int64_t padding : {0, 3}) {
    Placed x(backend(), dtype(), {5, 33}, padding);
    backend().fill_zero(x);
    EXPECT_EQ(x.read(), Values(5 * 33, 0.0));
    EXPECT_TRUE(x.padding_intact());
  }
}

TEST_P(MemoryOps, DownloadsStridedRows) {
  std::vector<float> all(4 * 6);
  std::iota(all.begin(), all.end(), 0.0F);
  Tensor x = upload_new(backend(), DType::f32, {4, 6}, all.data());
  std::vector<float> columns(4 * 2);
  backend().download(x.view().slice_columns(1, 3), columns.data());
  EXPECT_EQ(columns, (std::vector<float>{1, 2, 7, 8, 13, 14, 19, 20}));
}

TEST_P(MemoryOps, SumsSquaresInDouble) {
  for (int64_t n : {1, 7, 65536, 65537, 300001}) {
    const Values x = rounded_to(DType::f32, random_values(1, n));
    Placed px(backend(), DType::f32, {n}, x);
    const double expected = reference::dot(x.data(), x.data(), n);
    EXPECT_NEAR(backend().sum_of_squares(px), expected, 1e-12 * expected) << n;
  }
  Placed huge(backend(), DType::f32, {2}, Values{3e38, 3e38});  // its square is no float
  EXPECT_NEAR(backend().sum_of_squares(huge), 1.8e77, 1e71);
}

TEST_P(MemoryOps, BeginsAttentionOverNoKeys) {
  Placed out(backend(), dtype(), {5, 3, 8}), lse(backend(), DType::f32, {5, 3});
  backend().begin_attention(out, lse);
  EXPECT_EQ(out.read(), Values(5 * 3 * 8, 0.0));
  EXPECT_EQ(lse.read(), Values(5 * 3, -std::numeric_limits<double>::infinity()));
}

TEST_P(MemoryOps, AttentionDeltaIsTheRowSumOfProducts) {
  const reference::AttentionShape shape{7, 7, 3, 3, 81};
  const int64_t n = 7 * 3 * 81;
  const Values dout = rounded_to(dtype(), random_values(1, n)),
               out = rounded_to(dtype(), random_values(2, n));
  Placed pdout(backend(), dtype(), {7, 3, 81}, dout, 5),
      pout(backend(), dtype(), {7, 3, 81}, out, 2);
  Placed delta(backend(), DType::f32, {7, 3});
  backend().attention_delta(pdout, pout, delta);
  // 81 terms below 1, added in f32.
  EXPECT_LE(compare(delta.read(), reference::attention_delta(dout, out, shape)).max_error,
            81 * 81 * 0x1p-25);
}

TEST_P(MemoryOps, AdamWFollowsTheReferenceForSeveralSteps) {
  const int64_t n = 1003;
  Values weight = rounded_to(DType::f32, random_values(1, n));
  Values m = reference::zeros(n), v = reference::zeros(n);
  Placed pmaster(backend(), DType::f32, {n}, weight), pm(backend(), DType::f32, {n}, m),
      pv(backend(), DType::f32, {n}, v);
  Placed narrow(backend(), DType::bf16, {n});
  const bool has_master = dtype() == DType::bf16;
  for (int64_t step = 1; step <= 5; ++step) {
    const Values gradient =
        rounded_to(DType::f32, random_values(10 + static_cast<uint64_t>(step), n, -2, 2));
    const AdamWStep how{.learning_rate = 1e-2F,
                        .beta1 = 0.9F,
                        .beta2 = 0.95F,
                        .epsilon = 1e-8F,
                        .weight_decay = 0.1F,
                        .gradient_scale = 0.5F,
                        .step = step};
    Placed pgradient(backend(), DType::f32, {n}, gradient);
    backend().adamw(how, pgradient, pmaster, pm, pv, has_master ? narrow.view() : pmaster.view());
    reference::adamw(how, gradient, weight, m, v);
    // A handful of f32 roundings a step; 1 - beta2 = 0.05 in f32 is off by 2^-24 / 0.05, which v
    // takes on.
    const double bound = static_cast<double>(step) * 32 * 0x1p-24;
    EXPECT_TRUE(close_to_largest(pmaster.read(), weight, bound)) << "step " << step;
    EXPECT_TRUE(close_to_largest(pm.read(), m, bound)) << "step " << step;
    EXPECT_TRUE(close_to_largest(pv.read(), v, bound)) << "step " << step;
    if (has_master) {
      EXPECT_EQ(narrow.read(), rounded_to(DType::bf16, pmaster.read()));
    }
  }
}

TEST_P(MemoryOps, AdamWWithoutGradientOnlyDecays) {
  Placed master(backend(), DType::f32, {3}, Values{1, -2, 0}),
      m(backend(), DType::f32, {3}, Values(3, 0.0));
  Placed v(backend(), DType::f32, {3}, Values(3, 0.0)),
      gradient(backend(), DType::f32, {3}, Values(3, 0.0));
  backend().adamw({.learning_rate = 0.5F,
                   .beta1 = 0.9F,
                   .beta2 = 0.99F,
                   .epsilon = 1e-8F,
                   .weight_decay = 0.5F,
                   .gradient_scale = 1,
                   .step = 1},
                  gradient, master, m, v, master);
  EXPECT_EQ(master.read(), (Values{0.75, -1.5, 0}));
}

RINGBOLT_FOR_EACH_BACKEND(MemoryOps);

/// Everything that adds up over rows, on one thread and on more.
class Determinism : public testing::TestWithParam<BackendCase> {};

TEST_P(Determinism, SumsHaveTheSameBitsForAnyNumberOfThreads) {
  const DType dtype = GetParam().dtype;
  const int64_t tokens = 517, width = 133;
  const Values x = rounded_to(dtype, random_values(1, tokens * width)),
               dy = rounded_to(dtype, random_values(2, tokens * width));
  const auto sums = [&](int threads) {
    const auto backend = make_backend(GetParam(), threads);
    Placed px(*backend, dtype, {tokens, width}, x), pdy(*backend, dtype, {tokens, width}, dy);
    Placed weight(*backend, dtype, {width}, Values(static_cast<size_t>(width), 1.0));
    Placed rstd(*backend, DType::f32, {tokens}, Values(static_cast<size_t>(tokens), 1.0));
    Placed dx(*backend, dtype, {tokens, width}, reference::zeros(tokens * width));
    Placed dw(*backend, DType::f32, {width}, reference::zeros(width)),
        db(*backend, DType::f32, {width}, reference::zeros(width));
    Placed dtable(*backend, DType::f32, {11, width}, reference::zeros(11 * width));
    Placed wide(*backend, DType::f32, {tokens * width}, x);
    Tensor ids = upload_ids(*backend, random_ids(3, tokens, 11));
    backend->rms_norm_backward(pdy, px, weight, rstd, dx, dw);
    backend->bias_backward(pdy, db);
    backend->embedding_backward(pdy, ids, dtable);
    Values all = dw.read();
    for (const Values& more :
         {dx.read(), db.read(), dtable.read(), Values{backend->sum_of_squares(wide)}}) {
      all.insert(all.end(), more.begin(), more.end());
    }
    return all;
  };
  const Values one = sums(1);
  EXPECT_EQ(one.size(), static_cast<size_t>(width * 2 + tokens * width + 11 * width + 1));
  for (int threads : {2, 3, 5}) EXPECT_EQ(sums(threads), one) << threads << " threads";
}

RINGBOLT_FOR_EACH_BACKEND(Determinism);

}  // namespace
}  // namespace ringbolt
