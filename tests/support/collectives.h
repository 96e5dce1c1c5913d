// What stand-ins for NCCL compute, apart from when: collectives of all ranks' inputs, by rank.
#pragma once

#include <cstddef>
#include <cstring>
#include <functional>
#include <vector>

namespace ringbolt::test {

/// From the inputs of all ranks to one rank's output.
using Collective = std::function<void(const std::vector<const void*>& inputs, std::byte* output)>;

/// Elements [first, first + count) of the sums of floats, added in the order of ranks.
inline Collective sums(size_t first, size_t count) {
  return [first, count](const std::vector<const void*>& inputs, std::byte* output) {
    std::vector<float> sum(count);
    for (size_t r = 0; r < inputs.size(); ++r) {
      const float* values = static_cast<const float*>(inputs[r]) + first;
      for (size_t i = 0; i < count; ++i) sum[i] = r == 0 ? values[i] : sum[i] + values[i];
    }
    if (count > 0) std::memcpy(output, sum.data(), count * sizeof(float));
  };
}

/// `bytes` of each rank, one behind the other.
inline Collective concatenation(size_t bytes) {
  return [bytes](const std::vector<const void*>& inputs, std::byte* output) {
    for (size_t r = 0; r < inputs.size() && bytes > 0; ++r)
      std::memcpy(output + r * bytes, inputs[r], bytes);
  };
}

}  // namespace ringbolt::test
