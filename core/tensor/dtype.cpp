#include "core/tensor/dtype.h"

#include "core/base/error.h"

namespace ringbolt {

int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
      return 2;
    case DType::e4m3:
      return 1;
  }
  return 0;
}

std::string name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::i32:
      return "i32";
    case DType::e4m3:
      return "e4m3";
  }
  return "?";
}

DType model_dtype(std::string_view name) {
  if (name == "f32") return DType::f32;
  if (name == "bf16") return DType::bf16;
  throw UsageError(message(concat("unknown dtype '", name, "'"), "a model computes in f32 or bf16",
                           "Try --dtype f32."));
}

}  // namespace ringbolt
