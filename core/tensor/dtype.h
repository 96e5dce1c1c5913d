// Element types of tensors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/bf16.h"
#include "core/base/e4m3.h"

namespace ringbolt {

/// e4m3: operands of fp8 attention alone, divided by a scale that is kept apart.
enum class DType { f32, bf16, i32, e4m3 };

int64_t size_of(DType dtype);
std::string name_of(DType dtype);
/// Throws: UsageError for a name other than "f32" and "bf16" (the types a model can have).
DType model_dtype(std::string_view name);

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<e4m3> {
  static constexpr DType value = DType::e4m3;
};

}  // namespace ringbolt
