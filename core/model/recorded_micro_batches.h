// Micro-batches that repeat: run as they are the first time, recorded the second, replayed from
// then on (core/backend/recording.h).
//
// The first run is what lets libraries prepare themselves. A micro-batch of another key is run as
// it is, and what was recorded is dropped: lengths or documents that change every time leave
// nothing to replay.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "core/backend/recording.h"
#include "core/model/block.h"
#include "core/model/parameters.h"

namespace ringbolt {

/// What the operations of a micro-batch depend on besides what lies in memory, and which one of its
/// step it is.
struct MicroBatchKey {
  int64_t tokens = 0;     ///< T
  int64_t attention = 0;  ///< Attention::identity()
  int64_t pairs = 0;      ///< R/2 of the rotary table
  bool scales_queries = false;
  bool wants_dangles = false;
  RotatedBy rotated_by = RotatedBy::block;
  Recompute policy = Recompute::none;
  float scale = 0;

  friend bool operator==(const MicroBatchKey&, const MicroBatchKey&) = default;
};
MicroBatchKey key_of(int64_t tokens, const RotaryTable& rotary, const Attention& attention,
                     Recompute policy, float scale);

class RecordedMicroBatches {
 public:
  /// The recorder must outlive it.
  explicit RecordedMicroBatches(Recorder& recorder) : recorder_(recorder) {}

  /// `work` is what Recorder::record() takes; runs of one key must give the same operations.
  void run(const MicroBatchKey& key, MicroBatch which, const std::function<void()>& work);
  /// How many runs were replays.
  int64_t replayed() const { return replayed_; }

 private:
  struct Slot {
    bool seen = false;
    std::unique_ptr<Recording> recording;
  };
  Recorder& recorder_;
  std::optional<MicroBatchKey> key_;
  std::array<Slot, 2> slots_;  ///< by MicroBatch: a store over ranks reduces after the last one
  int64_t replayed_ = 0;
};

}  // namespace ringbolt
