// Seeded test data, and the conversions between the oracle's doubles and a device's types.
//
// `rounded_to` first, then compute the reference from what it returns: both sides then see the same
// inputs, and a test measures the operation's error alone.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "core/backend/backend.h"
#include "core/base/bf16.h"

namespace ringbolt::testing_support {

/// Uniform in [low, high): the same numbers for the same seed on every machine.
inline std::vector<double> random_values(uint64_t seed, int64_t count, double low = -1.0,
                                         double high = 1.0) {
  std::mt19937_64 engine(seed);
  std::vector<double> values(static_cast<size_t>(count));
  for (double& x : values) x = low + (high - low) * (static_cast<double>(engine() >> 11) * 0x1p-53);
  return values;
}

/// Uniform in [0, bound).
inline std::vector<int32_t> random_ids(uint64_t seed, int64_t count, int64_t bound) {
  std::mt19937_64 engine(seed);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) id = static_cast<int32_t>(engine() % static_cast<uint64_t>(bound));
  return ids;
}

inline std::vector<float> as_f32(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

inline std::vector<bf16> as_bf16(const std::vector<double>& values) {
  std::vector<bf16> result;
  result.reserve(values.size());
  for (double x : values) result.push_back(to_bf16(static_cast<float>(x)));
  return result;
}

inline std::vector<double> as_doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

/// The values after rounding to f32 or bf16.
inline std::vector<double> rounded_to(DType dtype, std::vector<double> values) {
  for (double& x : values) {
    const auto single = static_cast<float>(x);
    x = static_cast<double>(dtype == DType::bf16 ? to_float(to_bf16(single)) : single);
  }
  return values;
}

/// A tensor of dtype f32 or bf16 with these values.
inline Tensor upload_values(Backend& backend, DType dtype, Shape shape,
                            const std::vector<double>& values) {
  if (dtype == DType::bf16) return upload_new(backend, dtype, shape, as_bf16(values).data());
  return upload_new(backend, dtype, shape, as_f32(values).data());
}

}  // namespace ringbolt::testing_support
