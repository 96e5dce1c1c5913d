#include "core/cpu/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/cpu/allocator.h"
#include "core/cpu/attention.h"
#include "core/cpu/attention_work.h"
#include "core/cpu/parallel_for.h"
#include "core/cpu/rowwise.h"

namespace ringbolt::cpu {
namespace {

constexpr int64_t kRowGrain = 64;  ///< rows a task

/// Row `row` of part `part` of `parts` equal parts of the heads.
struct Part {
  int64_t width;  ///< elements
  template <class View>
  auto* bytes(const View& x, int64_t row, int64_t part) const {
    return x.bytes() + (row * x.row_stride() + part * width) * size_of(x.dtype());
  }
};

bool is_finite(float x) { return std::fabs(x) <= std::numeric_limits<float>::max(); }

/// `centre` null: 0.
template <class A>
float centred(const A* x, const float* centre, int64_t i) {
  return centre == nullptr ? to_float(x[i]) : to_float(x[i]) - centre[i];
}

template <class A>
float largest_of(const A* x, const float* centre, int64_t n, float largest) {
  for (int64_t i = 0; i < n; ++i) {
    const float magnitude = std::fabs(centred(x, centre, i));
    // (A NaN is not larger than anything; an infinity is no measure for the others.)
    if (magnitude > largest && is_finite(magnitude)) largest = magnitude;
  }
  return largest;
}

template <class A>
void quantize_rows(ConstView x, const float* centre, View codes, View scales) {
  const int64_t parts = scales.dim(0);
  const Part of{x.row_elements() / parts};
  const auto centre_of = [&](int64_t part) {
    return centre == nullptr ? nullptr : centre + part * of.width;
  };
  const int64_t tasks = (x.rows() + kRowGrain - 1) / kRowGrain;
  std::vector<float> largest(static_cast<size_t>(tasks * parts), 0.0F);
  parallel_for(tasks, [&](int64_t task) {
    const int64_t end = std::min(x.rows(), (task + 1) * kRowGrain);
    for (int64_t row = task * kRowGrain; row < end; ++row) {
      for (int64_t part = 0; part < parts; ++part) {
        float& most = largest[static_cast<size_t>(task * parts + part)];
        most = largest_of(reinterpret_cast<const A*>(of.bytes(x, row, part)), centre_of(part),
                          of.width, most);
      }
    }
  });
  for (int64_t part = 0; part < parts; ++part) {
    float most = 0;
    for (int64_t task = 0; task < tasks; ++task)
      most = std::max(most, largest[static_cast<size_t>(task * parts + part)]);
    scales.data<float>()[part] = e4m3_scale(most);
  }
  parallel_pieces(x.rows(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t part = 0; part < parts; ++part) {
        const float inverse = 1 / scales.data<float>()[part];
        const A* from = reinterpret_cast<const A*>(of.bytes(x, row, part));
        auto* to = reinterpret_cast<e4m3*>(of.bytes(codes, row, part));
        for (int64_t i = 0; i < of.width; ++i)
          to[i] = to_e4m3(centred(from, centre_of(part), i) * inverse);
      }
    }
  });
}

template <class A>
void means_of_columns(ConstView x, float* means) {
  constexpr int64_t kPieces = 64;  // cut by the rows alone, added in order
  const int64_t n = x.row_elements();
  const int64_t grain = std::max<int64_t>(1, (x.rows() + kPieces - 1) / kPieces);
  const int64_t pieces = (x.rows() + grain - 1) / grain;
  std::vector<double> sums(static_cast<size_t>(pieces * n), 0.0);
  std::vector<int64_t> counts(static_cast<size_t>(pieces * n), 0);
  parallel_for(pieces, [&](int64_t p) {
    for (int64_t row = p * grain; row < std::min(x.rows(), (p + 1) * grain); ++row) {
      for (int64_t i = 0; i < n; ++i) {
        const float value = to_float(x.row<A>(row)[i]);
        if (!is_finite(value)) continue;
        sums[static_cast<size_t>(p * n + i)] += static_cast<double>(value);
        ++counts[static_cast<size_t>(p * n + i)];
      }
    }
  });
  for (int64_t i = 0; i < n; ++i) {
    double sum = 0;
    int64_t count = 0;
    for (int64_t p = 0; p < pieces; ++p) {
      sum += sums[static_cast<size_t>(p * n + i)];
      count += counts[static_cast<size_t>(p * n + i)];
    }
    means[i] = count == 0 ? 0.0F : static_cast<float>(sum / static_cast<double>(count));
  }
}

float scale_of(const E4m3View& x) { return *x.scale.data<float>(); }

}  // namespace

void quantize(ConstView x, View codes, View scales, std::optional<ConstView> centre) {
  require_attention(!centre || (centre->elements() == x.row_elements() && centre->is_contiguous()),
                    "a centre must have an element for each of a row");
  const float* of_row = centre ? centre->data<float>() : nullptr;
  require_attention(codes.shape() == x.shape() && codes.dtype() == DType::e4m3,
                    "codes must be E4M3 of x's shape");
  require_attention(
      scales.shape().rank() == 1 && scales.dim(0) > 0 && x.dim(1) % scales.dim(0) == 0,
      "scales must be (G), G equal parts of the heads");
  if (x.dtype() == DType::bf16) {
    quantize_rows<bf16>(x, of_row, codes, scales);
  } else {
    RINGBOLT_CHECK(x.dtype() == DType::f32);
    quantize_rows<float>(x, of_row, codes, scales);
  }
}

void column_means(ConstView x, View means) {
  if (x.dtype() == DType::bf16) {
    means_of_columns<bf16>(x, means.data<float>());
  } else {
    RINGBOLT_CHECK(x.dtype() == DType::f32);
    means_of_columns<float>(x, means.data<float>());
  }
}

void shift_lse(const E4m3View& q, ConstView centre, float factor, View lse) {
  const int64_t heads = q.codes.dim(1);
  const int64_t d = q.codes.dim(2);
  const int64_t group = heads / centre.dim(0);
  const float scaled = factor * scale_of(q);
  parallel_pieces(q.codes.rows(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t h = 0; h < heads; ++h) {
        const e4m3* codes = q.codes.row<e4m3>(row) + h * d;
        const float* to = centre.data<float>() + h / group * d;
        float sum = 0;
        for (int64_t i = 0; i < d; ++i) sum += to_float(codes[i]) * to[i];
        float& at = lse.row<float>(row)[h];
        if (at != -std::numeric_limits<float>::infinity()) at += scaled * sum;
      }
    }
  });
}

void round_to_e4m3(View x, float scale) {
  const float inverse = 1 / scale;
  parallel_pieces(x.rows(), kRowGrain, [&](int64_t begin, int64_t end) {
    float* const last = x.data<float>() + end * x.row_elements();
    for (float* at = x.data<float>() + begin * x.row_elements(); at != last; ++at) {
      *at = to_float(to_e4m3(*at * inverse)) * scale;
    }
  });
}

void attention_forward_e4m3(SliceList slices, const E4m3View& q, const E4m3View& k,
                            const E4m3View& v, float scale, E4m3Output output, View out, View lse,
                            Isa isa, const RowwiseKernels& kernels, Allocator& allocator,
                            Progress* progress) {
  const CodeScales codes{scale_of(q) * scale_of(k), scale_of(v)};
  if (output == E4m3Output::wide) {
    return attention_forward(slices, q.codes, k.codes, v.codes, scale, out, lse, isa, progress,
                             codes);
  }
  const auto own = [&](const Shape& shape) {
    return Tensor(allocator.allocate(shape.elements() * size_of(DType::f32)), DType::f32, shape);
  };
  Tensor block = own(out.shape());
  Tensor block_lse = own(lse.shape());
  begin_attention(block, block_lse);
  attention_forward(slices, q.codes, k.codes, v.codes, scale, block, block_lse, isa, progress,
                    codes);
  round_to_e4m3(block, codes.values);
  if (out.dtype() == DType::f32) return merge_attention(kernels, block, block_lse, out, lse);
  convert(kernels, block, out);  // the list is all there is
  convert(kernels, block_lse, lse);
}

}  // namespace ringbolt::cpu
