// The key/value cache: attention of new tokens over all that came before them.
#pragma once

#include <optional>
#include <vector>

#include "core/backend/visibility.h"
#include "core/model/attention.h"
#include "core/model/config.h"
#include "core/model/rotary_table.h"

namespace ringbolt {

/// One (capacity, 2K, D) buffer a layer. It holds rotated keys, which is right for every method
/// whose angles never change. Given `rotary`, it holds keys before rotation, takes q and kv before
/// rotation, too, and turns all keys anew by the angles of the present length: for methods whose
/// angles depend on it. (What upper layers hold of early tokens was computed when the text was
/// shorter; only recomputing the prompt would change that.)
class KvCache final : public Attention {
 public:
  /// Room for `capacity` tokens; new tokens see of those before them what `visibility` says.
  /// Throws: DeviceError when the memory is not there.
  KvCache(Backend& backend, const ModelConfig& config, DType dtype, int64_t capacity,
          const Visibility& visibility = {}, std::optional<RotaryTables> rotary = std::nullopt);

  int64_t length() const { return length_; }
  int64_t capacity() const { return capacity_; }
  /// Appends the T tokens of kv to the layer's cache and attends causally over all of it. The last
  /// layer's call moves length() on. Throws: UsageError when the cache is full.
  void forward(int64_t layer, ConstView q, ConstView kv, View out, View lse) override;
  /// A cache has no backward. Throws: std::logic_error.
  void backward(int64_t layer, ConstView q, ConstView kv, ConstView dout, ConstView out,
                ConstView lse, View dq, View dkv) override;

 private:
  void begin_pass(int64_t end);
  void attend(ConstView q, ConstView k, ConstView v, View out, View lse);

  Backend& backend_;
  RotaryPairing pairing_;
  int64_t capacity_;
  int64_t length_ = 0;
  Visibility visibility_;
  std::vector<AttentionSlice> slices_;
  std::optional<RotaryTables> rotary_;
  RotaryTable
      table_;  ///< of all positions, at the present length; where keys are held before rotation
  std::vector<Tensor> layers_;
};

}  // namespace ringbolt
