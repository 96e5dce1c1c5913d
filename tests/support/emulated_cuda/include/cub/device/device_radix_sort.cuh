// Takes the place of CUB's header on the emulated device: a stable sort, enqueued. Like CUB's, the
// first call only says how much temporary memory the second must be given.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

#include "tests/support/emulated_cuda/device.h"

namespace cub {

struct DeviceRadixSort {
  template <class Key, class Value, class Count>
  static cudaError_t SortPairs(void* temporary, size_t& temporary_bytes, const Key* keys,
                               Key* sorted_keys, const Value* values, Value* sorted_values,
                               Count count, int begin_bit, int end_bit, cudaStream_t stream) {
    const auto n = static_cast<size_t>(count);
    const size_t needed = 256 + n * (sizeof(Key) + sizeof(Value));
    if (temporary == nullptr) {
      temporary_bytes = needed;
      return cudaSuccess;
    }
    if (temporary_bytes < needed) return cudaErrorInvalidValue;
    return ringbolt::emulated_cuda::Device::get().enqueue(stream, "radix sort", [=] {
      std::memset(temporary, 0xff, needed);  // it must be there
      const auto bits_of = [&](size_t i) {
        const auto bits = static_cast<uint64_t>(keys[i]) >> begin_bit;
        return bits & ((uint64_t{1} << (end_bit - begin_bit)) - 1);
      };
      std::vector<size_t> order(n);
      std::iota(order.begin(), order.end(), size_t{0});
      std::stable_sort(order.begin(), order.end(),
                       [&](size_t a, size_t b) { return bits_of(a) < bits_of(b); });
      for (size_t i = 0; i < n; ++i) {
        sorted_keys[i] = keys[order[i]];
        sorted_values[i] = values[order[i]];
      }
    });
  }
};

}  // namespace cub
