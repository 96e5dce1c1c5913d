#include "core/bench/random_data.h"

#include <algorithm>
#include <map>
#include <span>
#include <vector>

#include "core/base/random.h"

namespace ringbolt {
namespace {

/// No multiple of a row of the usual widths, so that rows differ; pieces stay aligned to 128 bytes.
constexpr int64_t kBlock = (int64_t{1} << 20) + 64;

template <class Draw>
Tensor drawn(Backend& backend, int64_t elements, const Draw& draw) {
  std::vector<float> values(static_cast<size_t>(std::min(elements, kBlock)));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(draw(i));
  return upload_new(backend, DType::f32, {static_cast<int64_t>(values.size())}, values.data());
}

/// `block` again and again, as far as the flat `to` goes.
void repeat(Backend& backend, const Tensor& block, View to) {
  const int64_t length = block.shape().elements();
  for (int64_t begin = 0; begin < to.rows(); begin += length) {
    const int64_t end = std::min(to.rows(), begin + length);
    backend.convert(block.view().slice_rows(0, end - begin), to.slice_rows(begin, end));
  }
}

}  // namespace

Tensor random_tensor(Backend& backend, DType dtype, const Shape& shape, uint64_t seed) {
  const Philox random(seed);
  const Tensor block =
      drawn(backend, shape.elements(), [&](uint64_t i) { return 2 * random.uniform(i) - 1; });
  Tensor result = backend.allocate(dtype, shape);
  repeat(backend, block, result.view().reshape({shape.elements()}));
  return result;
}

void fill_random_weights(Backend& backend, ParameterStore& store) {
  const Philox random(1);
  int64_t longest = 0;
  store.for_each([&](const ParameterPiece& piece) { longest = std::max(longest, piece.count); });
  std::map<double, Tensor> normal;  // by deviation
  const auto block_of = [&](double deviation) -> const Tensor& {
    Tensor& block = normal[deviation];
    if (block.empty())
      block = drawn(backend, longest, [&](uint64_t i) { return deviation * random.normal(i); });
    return block;
  };
  const Tensor one = drawn(backend, longest, [](uint64_t) { return 1.0; });
  store.for_each([&](const ParameterPiece& piece) {
    const View first = piece.master.empty() ? piece.weight : piece.master;
    if (piece.spec.initial == InitialValue::zero) {
      backend.fill_zero(first);
    } else if (piece.spec.initial == InitialValue::one) {
      repeat(backend, one, first);
    } else {
      repeat(backend, block_of(initial_deviation(piece.spec, store.config())), first);
    }
    if (piece.weight.bytes() != first.bytes()) backend.convert(first, piece.weight);
  });
  store.weights_changed();
}

TokenReader random_tokens(int64_t vocab_size) {
  return [random = Philox(1), vocab_size](int64_t begin, std::span<int32_t> out) {
    for (size_t i = 0; i < out.size(); ++i) {
      const uint64_t bits = random.bits(static_cast<uint64_t>(begin) + i);
      out[i] = static_cast<int32_t>(bits % static_cast<uint64_t>(vocab_size));
    }
  };
}

}  // namespace ringbolt
