// The transfer stream of a GPU, ordered with its compute stream by events.
#pragma once

#include <deque>
#include <vector>

#include "core/backend/transfers.h"
#include "core/cuda/runtime.h"

namespace ringbolt::cuda {

class StreamTransfers final : public Transfers {
 public:
  /// Beside `compute`, a stream of GPU `device`, which must outlive this. Its copies go first where
  /// both streams have work for the same units.
  StreamTransfers(int device, cudaStream_t compute);
  StreamTransfers(const StreamTransfers&) = delete;
  StreamTransfers& operator=(const StreamTransfers&) = delete;
  ~StreamTransfers() override;

  int device() const { return device_; }
  cudaStream_t compute() const { return compute_; }

  void enter_thread() override;
  Mark computed() override { return behind(compute_); }
  Mark transferred() override { return behind(stream_.get()); }
  void transfer_after(const Mark& mark) override { after(stream_.get(), mark); }
  void compute_after(const Mark& mark) override { after(compute_, mark); }
  void copy(const std::byte* from, std::byte* to, size_t bytes, Way way) override;
  void begin_pause() override;
  void end_pause() override;
  double take_paused_seconds() override;
  bool is_done(const Mark& mark) override;
  void wait(const Mark& mark) override;
  std::shared_ptr<std::byte> host_memory(size_t bytes) override;

  /// Whether what the compute stream is given goes into a recording: then pauses are not timed.
  bool is_captured() const;
  /// A mark behind what any stream of this GPU was given so far.
  static Mark behind(cudaStream_t stream);
  static void after(cudaStream_t stream, const Mark& mark);

 private:
  int device_;
  cudaStream_t compute_;
  Stream stream_;

  struct Pause {
    Event begin, end;
  };
  Event pausing_;             ///< where the pause of now began
  std::deque<Pause> pauses_;  ///< not yet asked for
  std::vector<Event> spare_;  ///< with timing
  Event take_event();
};

}  // namespace ringbolt::cuda
