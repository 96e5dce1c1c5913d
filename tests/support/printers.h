// How GoogleTest names the contract's enums in parameterized tests and failures.
#pragma once

#include <ostream>

#include "core/backend/backend.h"

namespace ringbolt {

inline void PrintTo(RotaryPairing pairing, std::ostream* out) {
  *out << (pairing == RotaryPairing::interleaved ? "interleaved" : "half_split");
}
inline void PrintTo(DType dtype, std::ostream* out) { *out << name_of(dtype); }
inline void PrintTo(Transpose transpose, std::ostream* out) {
  *out << (transpose == Transpose::yes ? "transposed" : "plain");
}

}  // namespace ringbolt
