// A communicator of device memory as one of host memory: everything passes through tensors of a
// backend, so that the promises of tests/parallel/conformance.h are asked of the device's.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/backend/backend.h"
#include "parallel/communicator.h"

namespace ringbolt::test {

/// Bytes on the device, padded to whole elements.
class DeviceBytes {
 public:
  DeviceBytes(Backend& backend, std::span<const std::byte> host)
      : DeviceBytes(backend, host.size()) {
    std::vector<std::byte> padded(static_cast<size_t>(tensor_.view().bytes_needed()));
    std::copy(host.begin(), host.end(), padded.begin());
    backend.upload(padded.data(), tensor_);
  }
  /// Of values that no test expects.
  DeviceBytes(Backend& backend, size_t bytes)
      : backend_(backend),
        bytes_(bytes),
        tensor_(backend.allocate(DType::i32, {static_cast<int64_t>(bytes / 4 + 1)})) {
    const std::vector<std::byte> canaries(static_cast<size_t>(tensor_.view().bytes_needed()),
                                          std::byte{0xA5});
    backend.upload(canaries.data(), tensor_);
  }
  std::span<std::byte> span() { return {tensor_.view().bytes(), bytes_}; }
  std::span<float> floats() {
    return {reinterpret_cast<float*>(tensor_.view().bytes()), bytes_ / sizeof(float)};
  }
  void read(std::span<std::byte> host) {
    std::vector<std::byte> padded(static_cast<size_t>(tensor_.view().bytes_needed()));
    backend_.download(tensor_, padded.data());
    std::copy_n(padded.begin(), host.size(), host.begin());
  }

 private:
  Backend& backend_;
  size_t bytes_;
  Tensor tensor_;
};

class OverDevice final : public Communicator {
 public:
  OverDevice(std::unique_ptr<Communicator> devices, Backend& backend)
      : devices_(std::move(devices)), backend_(backend) {}

  int rank() const override { return devices_->rank(); }
  int size() const override { return devices_->size(); }
  RankContext& context() override { return devices_->context(); }

  Request send_receive(std::span<const std::byte> send, int to, std::span<std::byte> receive,
                       int from, Tag tag) override {
    return Request(std::make_unique<Pending>(*this, send, to, receive, from, tag));
  }
  Request send_receive_on(Transfers& device, std::span<const std::byte> send, int to,
                          std::span<std::byte> receive, int from, Tag tag) override {
    return devices_->send_receive_on(device, send, to, receive, from, tag);
  }
  void all_reduce(std::span<float> values) override {
    DeviceBytes device(backend_, std::as_bytes(values));
    devices_->all_reduce(device.floats());
    device.read(std::as_writable_bytes(values));
  }
  void all_reduce(std::span<double> values) override { devices_->all_reduce(values); }
  void all_reduce(std::span<int64_t> values) override { devices_->all_reduce(values); }
  void all_gather(std::span<const std::byte> piece, std::span<std::byte> gathered) override {
    DeviceBytes all(backend_, gathered);
    if (const auto place = inside(piece, gathered)) {
      devices_->all_gather(all.span().subspan(*place, piece.size()), all.span());
    } else {
      DeviceBytes own(backend_, piece);
      devices_->all_gather(own.span(), all.span());
    }
    all.read(gathered);
  }
  void reduce_scatter(std::span<const float> values, std::span<float> piece) override {
    DeviceBytes all(backend_, std::as_bytes(values));
    if (const auto place = inside(std::as_bytes(piece), std::as_bytes(values))) {
      devices_->reduce_scatter(all.floats(),
                               all.floats().subspan(*place / sizeof(float), piece.size()));
      std::vector<float> whole(values.size());
      all.read(std::as_writable_bytes(std::span(whole)));
      std::copy_n(whole.begin() + static_cast<std::ptrdiff_t>(*place / sizeof(float)), piece.size(),
                  piece.begin());
    } else {
      DeviceBytes own(backend_, piece.size_bytes());
      devices_->reduce_scatter(all.floats(), own.floats());
      own.read(std::as_writable_bytes(piece));
    }
  }
  void all_to_all(std::span<const std::byte> send, std::span<std::byte> receive) override {
    DeviceBytes from(backend_, send);
    DeviceBytes to(backend_, receive.size());
    devices_->all_to_all(from.span(), to.span());
    to.read(receive);
  }
  void broadcast(std::span<std::byte> bytes, int root) override {
    devices_->broadcast(bytes, root);
  }
  void barrier() override { devices_->barrier(); }
  std::unique_ptr<Communicator> split(int colour, int key) override {
    return std::make_unique<OverDevice>(devices_->split(colour, key), backend_);
  }

 private:
  class Pending final : public Request::Pending {
   public:
    Pending(OverDevice& over, std::span<const std::byte> send, int to, std::span<std::byte> receive,
            int from, Tag tag)
        : host_(receive),
          sent_(over.backend_, send),
          received_(over.backend_, receive.size()),
          request_(over.devices_->send_receive(sent_.span(), to, received_.span(), from, tag)) {}
    bool test() override {
      if (!request_.test()) return false;
      read();
      return true;
    }
    void wait() override {
      request_.wait();
      read();
    }

   private:
    void read() {
      if (!std::exchange(read_, true)) received_.read(host_);
    }
    std::span<std::byte> host_;
    DeviceBytes sent_, received_;
    Request request_;
    bool read_ = false;
  };

  static std::optional<size_t> inside(std::span<const std::byte> part,
                                      std::span<const std::byte> whole) {
    if (part.data() < whole.data() || part.data() + part.size() > whole.data() + whole.size())
      return std::nullopt;
    return static_cast<size_t>(part.data() - whole.data());
  }

  std::unique_ptr<Communicator> devices_;
  Backend& backend_;
};

}  // namespace ringbolt::test
