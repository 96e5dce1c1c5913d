#include <algorithm>
#include <cstddef>

#include "core/base/error.h"
#include "parallel/communicator.h"

namespace ringbolt {
namespace {

class SingleCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  RankContext& context() override { return context_; }
  Request send_receive(std::span<const std::byte> send, int to, std::span<std::byte> receive,
                       int from, Tag) override {
    RINGBOLT_CHECK(to == 0 && from == 0);
    static_cast<void>(to), static_cast<void>(from);
    copy(send, receive);
    return Request();
  }
  Request send_receive_on(Transfers& device, std::span<const std::byte> send, int to,
                          std::span<std::byte> receive, int from, Tag) override {
    RINGBOLT_CHECK(to == 0 && from == 0);
    static_cast<void>(to), static_cast<void>(from);
    require_equal(send.size(), receive.size());
    if (send.data() == receive.data()) return Request();
    device.transfer_after(device.computed());
    device.copy(send.data(), receive.data(), send.size(), Transfers::Way::within_device);
    device.compute_after(device.transferred());
    return Request();
  }
  void all_reduce(std::span<float>) override {}
  void all_reduce(std::span<double>) override {}
  void all_reduce(std::span<int64_t>) override {}
  void all_gather(std::span<const std::byte> piece, std::span<std::byte> gathered) override {
    copy(piece, gathered);
  }
  void reduce_scatter(std::span<const float> values, std::span<float> piece) override {
    copy(std::as_bytes(values), std::as_writable_bytes(piece));
  }
  void all_to_all(std::span<const std::byte> send, std::span<std::byte> receive) override {
    copy(send, receive);
  }
  void broadcast(std::span<std::byte>, int) override {}
  void barrier() override {}
  std::unique_ptr<Communicator> split(int, int) override { return make_single_communicator(); }

 private:
  RankContext context_;

  static void require_equal(size_t sent, size_t expected) {
    if (sent == expected) return;
    throw CommError(message(concat("a rank sent itself ", sent, " bytes and expected ", expected),
                            "both sides of a message must agree on its size",
                            "This is a defect of Ringbolt."));
  }
  static void copy(std::span<const std::byte> from, std::span<std::byte> to) {
    require_equal(from.size(), to.size());
    if (from.data() != to.data()) std::copy(from.begin(), from.end(), to.begin());
  }
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator() {
  return std::make_unique<SingleCommunicator>();
}

}  // namespace ringbolt
