#include "parallel/device_communicator.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/error.h"

namespace ringbolt {
namespace {

/// The pieces of a reduction that arrive, all ranks' together.
constexpr int64_t kReduceBytes = int64_t{32} << 20;
constexpr int64_t kF32 = 4;

/// Elements of a part that are summed at a time.
int64_t reduction_chunk(int64_t ranks, int64_t part) {
  const int64_t most = std::max<int64_t>(1, kReduceBytes / kF32 / std::max<int64_t>(ranks, 1));
  return std::min(most, part);
}

View floats(std::span<float> values) {
  return View::of<float>(values.data(), {static_cast<int64_t>(values.size())});
}
ConstView floats(std::span<const float> values) {
  return ConstView::of<float>(values.data(), {static_cast<int64_t>(values.size())});
}

class DeviceCommunicator final : public Communicator {
 public:
  DeviceCommunicator(std::unique_ptr<Communicator> host, Backend& backend)
      : host_(std::move(host)), backend_(backend), device_(*backend.transfers()) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  RankContext& context() override { return host_->context(); }
  bool can_be_recorded() const override { return size() == 1; }

  Request send_receive(std::span<const std::byte> send, int to, std::span<std::byte> receive,
                       int from, Tag tag) override {
    return host_->send_receive_on(device_, send, to, receive, from, tag);
  }
  Request send_receive_on(Transfers& device, std::span<const std::byte> send, int to,
                          std::span<std::byte> receive, int from, Tag tag) override {
    return host_->send_receive_on(device, send, to, receive, from, tag);
  }
  void all_reduce(std::span<float> values) override;
  void all_reduce(std::span<double> values) override { host_->all_reduce(values); }
  void all_reduce(std::span<int64_t> values) override { host_->all_reduce(values); }
  void all_gather(std::span<const std::byte> piece, std::span<std::byte> gathered) override;
  void reduce_scatter(std::span<const float> values, std::span<float> piece) override;
  void all_to_all(std::span<const std::byte> send, std::span<std::byte> receive) override;
  void broadcast(std::span<std::byte> bytes, int root) override { host_->broadcast(bytes, root); }
  void barrier() override { host_->barrier(); }
  std::unique_ptr<Communicator> split(int colour, int key) override {
    return std::make_unique<DeviceCommunicator>(host_->split(colour, key), backend_);
  }

 private:
  int rank_after(int steps) const { return (rank() + steps) % size(); }
  int rank_before(int steps) const { return (rank() + size() - steps) % size(); }

  /// To oneself: on the compute stream.
  void copy(std::span<const std::byte> from, std::span<std::byte> to);
  /// Rank r sums elements [r part, (r + 1) part) of `values`, as far as there are any, into
  /// `piece`, which may lie there.
  void reduce_parts(std::span<const float> values, int64_t part, std::span<float> piece, Tag tag);

  std::unique_ptr<Communicator> host_;
  Backend& backend_;
  Transfers& device_;
};

void DeviceCommunicator::copy(std::span<const std::byte> from, std::span<std::byte> to) {
  if (from.data() == to.data() || from.empty()) return;
  device_.transfer_after(device_.computed());
  device_.copy(from.data(), to.data(), from.size(), Transfers::Way::within_device);
  device_.compute_after(device_.transferred());
}

void DeviceCommunicator::all_gather(std::span<const std::byte> piece,
                                    std::span<std::byte> gathered) {
  RINGBOLT_CHECK(gathered.size() == piece.size() * static_cast<size_t>(size()));
  const auto place = [&](int r) {
    return gathered.subspan(static_cast<size_t>(r) * piece.size(), piece.size());
  };
  copy(piece, place(rank()));
  for (int step = 1; step < size(); ++step) {
    const int from = rank_before(step);
    send_receive(piece, rank_after(step), place(from), from, Tag::all_gather).wait();
  }
}

void DeviceCommunicator::all_to_all(std::span<const std::byte> send, std::span<std::byte> receive) {
  RINGBOLT_CHECK(send.size() == receive.size() && send.size() % static_cast<size_t>(size()) == 0);
  const size_t piece = send.size() / static_cast<size_t>(size());
  const auto at = [&](int r) { return static_cast<size_t>(r) * piece; };
  copy(send.subspan(at(rank()), piece), receive.subspan(at(rank()), piece));
  for (int step = 1; step < size(); ++step) {
    const int to = rank_after(step);
    const int from = rank_before(step);
    send_receive(send.subspan(at(to), piece), to, receive.subspan(at(from), piece), from,
                 Tag::all_to_all)
        .wait();
  }
}

void DeviceCommunicator::reduce_parts(std::span<const float> values, int64_t part,
                                      std::span<float> piece, Tag tag) {
  const auto all = static_cast<int64_t>(values.size());
  const int64_t chunk = reduction_chunk(size(), part);
  if (chunk == 0) return;
  // Chunk c of rank r's part.
  const auto range = [&](int r, int64_t c) {
    const int64_t end = std::min(all, part * (r + 1));
    const int64_t first = std::min(end, part * r + c * chunk);
    return values.subspan(static_cast<size_t>(first),
                          static_cast<size_t>(std::min(chunk, end - first)));
  };
  // What came from each rank; this rank's row takes the sum.
  Tensor terms = backend_.allocate(DType::f32, {size(), chunk});
  for (int64_t c = 0; c * chunk < part; ++c) {
    const std::span<const float> own = range(rank(), c);
    const auto n = static_cast<int64_t>(own.size());
    const auto term = [&](int r) { return std::span(terms.view().row<float>(r), own.size()); };
    for (int step = 1; step < size(); ++step) {
      const int to = rank_after(step);
      const int from = rank_before(step);
      send_receive(std::as_bytes(range(to, c)), to, std::as_writable_bytes(term(from)), from, tag)
          .wait();
    }
    if (n == 0) continue;
    const View sum = floats(term(rank()));
    const auto summand = [&](int r) { return r == rank() ? floats(own) : floats(term(r)); };
    backend_.convert(summand(0), sum);
    for (int r = 1; r < size(); ++r) backend_.add(summand(r), sum);
    backend_.convert(sum, floats(piece.subspan(static_cast<size_t>(c * chunk), own.size())));
  }
}

void DeviceCommunicator::reduce_scatter(std::span<const float> values, std::span<float> piece) {
  RINGBOLT_CHECK(values.size() == piece.size() * static_cast<size_t>(size()));
  if (size() == 1) return copy(std::as_bytes(values), std::as_writable_bytes(piece));
  reduce_parts(values, static_cast<int64_t>(piece.size()), piece, Tag::reduce_scatter);
}

void DeviceCommunicator::all_reduce(std::span<float> values) {
  const auto n = static_cast<int64_t>(values.size());
  if (size() == 1 || n == 0) return;
  const int64_t part = (n + size() - 1) / size();
  const auto part_of = [&](int r) {
    const int64_t first = std::min(n, part * r);
    return values.subspan(static_cast<size_t>(first),
                          static_cast<size_t>(std::min(part, n - first)));
  };
  const std::span<float> own = part_of(rank());
  reduce_parts(values, part, own, Tag::all_reduce);
  for (int step = 1; step < size(); ++step) {
    const int from = rank_before(step);
    send_receive(std::as_bytes(own), rank_after(step), std::as_writable_bytes(part_of(from)), from,
                 Tag::all_reduce)
        .wait();
  }
}

}  // namespace

std::unique_ptr<Communicator> make_device_communicator(Communicator& host, Backend& backend) {
  std::unique_ptr<Communicator> own = host.split(0, host.rank());
  if (backend.transfers() == nullptr) return own;
  return std::make_unique<DeviceCommunicator>(std::move(own), backend);
}

int64_t device_reduction_bytes(int64_t ranks, int64_t elements) {
  return ranks * reduction_chunk(ranks, (elements + ranks - 1) / ranks) * kF32;
}

}  // namespace ringbolt
