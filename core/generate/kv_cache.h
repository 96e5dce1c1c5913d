// The key/value cache: attention of new tokens over all that came before them.
#pragma once

#include <vector>

#include "core/model/attention.h"
#include "core/model/config.h"

namespace ringbolt {

/// Holds rotated keys, which is right for every method whose angles never change. One (capacity, 2K, D) buffer a layer.
class KvCache final : public Attention {
 public:
  /// Room for `capacity` tokens. Throws: DeviceError when the memory is not there.
  KvCache(Backend& backend, const ModelConfig& config, DType dtype, int64_t capacity);

  int64_t length() const { return length_; }
  int64_t capacity() const { return capacity_; }
  /// Appends the T tokens of kv to the layer's cache and attends causally over all of it. The last layer's call moves
  /// length() on. Throws: UsageError when the cache is full.
  void forward(int64_t layer, ConstView q, ConstView kv, View out, View lse) override;
  /// A cache has no backward. Throws: std::logic_error.
  void backward(int64_t layer, ConstView q, ConstView kv, ConstView dout, ConstView out, ConstView lse, View dq,
                View dkv) override;

 private:
  Backend& backend_;
  int64_t capacity_;
  int64_t length_ = 0;
  std::vector<Tensor> layers_;
};

}  // namespace ringbolt
