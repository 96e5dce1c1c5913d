// Copies beside computation: the second stream of a device, and how it and the compute stream wait
// for each other.
//
// Nothing here blocks the host but `wait`. A mark is a point in a stream's work; whoever comes
// after a mark sees what was done before it. Marks may be handed to another thread and used with
// the transfers of another device of their kind in the same process; they live on until they are
// dropped, whatever becomes of the stream.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

namespace ringbolt {

class Mark {
 public:
  /// What is done already.
  Mark() = default;
  explicit Mark(std::shared_ptr<void> event) : event_(std::move(event)) {}
  bool empty() const { return event_ == nullptr; }
  /// The device's own object.
  void* event() const { return event_.get(); }

 private:
  std::shared_ptr<void> event_;
};

class Transfers {
 public:
  enum class Way { within_device, to_host, to_device };

  virtual ~Transfers() = default;

  /// Whichever thread uses them, but that which made the backend, calls this first: CUDA would open
  /// its first GPU for a thread that named none.
  virtual void enter_thread() = 0;

  /// Behind all that the compute stream was given so far.
  virtual Mark computed() = 0;
  /// Behind all that the transfer stream was given so far.
  virtual Mark transferred() = 0;
  /// What the transfer stream is given from now on runs after `mark`.
  virtual void transfer_after(const Mark& mark) = 0;
  /// What the compute stream is given from now on runs after `mark`.
  virtual void compute_after(const Mark& mark) = 0;
  /// On the transfer stream. Host memory is that of host_memory(); both ends stay as they are until
  /// a mark behind the copy is done. Device memory may be another thread's, of the same device.
  virtual void copy(const std::byte* from, std::byte* to, size_t bytes, Way way) = 0;

  /// From here until end_pause() the compute stream is given nothing but marks to wait for.
  virtual void begin_pause() = 0;
  virtual void end_pause() = 0;
  /// What the compute stream stood still in pauses that are over and were not asked for before:
  /// what no computation hid.
  virtual double take_paused_seconds() = 0;

  virtual bool is_done(const Mark& mark) = 0;
  /// Blocks the host until then.
  virtual void wait(const Mark& mark) = 0;
  /// Pinned, so that copies run beside everything else; pageable where the system pins no more.
  virtual std::shared_ptr<std::byte> host_memory(size_t bytes) = 0;
};

/// Puts the compute stream behind `marks`; adds what it has waited so far to `waited_seconds`.
template <class... Marks>
void compute_behind(Transfers& device, double& waited_seconds, const Marks&... marks) {
  (device.compute_after(marks), ...);
  device.end_pause();
  waited_seconds += device.take_paused_seconds();
}

}  // namespace ringbolt
