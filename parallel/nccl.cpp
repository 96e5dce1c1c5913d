#include "parallel/nccl.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <utility>

#include "parallel/nccl.channel.h"

namespace ringbolt {
namespace {

/// Kinds of messages that may be under way at once.
size_t channel_of(Tag tag) {
  switch (tag) {
    case Tag::ring_operand:
      return 0;
    case Tag::ring_sum:
      return 1;
    default:
      return 2;
  }
}
constexpr size_t kChannels = 3;

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<NcclRank> rank, std::unique_ptr<Communicator> host)
      : rank_(std::move(rank)), host_(std::move(host)) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  RankContext& context() override { return host_->context(); }
  bool can_be_recorded() const override { return true; }

  Request send_receive(std::span<const std::byte> send, int to, std::span<std::byte> receive,
                       int from, Tag tag) override;
  Request send_receive_on(Transfers& device, std::span<const std::byte> send, int to,
                          std::span<std::byte> receive, int from, Tag tag) override {
    RINGBOLT_CHECK(&device == &rank_->device());
    static_cast<void>(device);
    return send_receive(send, to, receive, from, tag);
  }
  void all_reduce(std::span<float> values) override;
  void all_reduce(std::span<double> values) override { scalars().all_reduce(values); }
  void all_reduce(std::span<int64_t> values) override { scalars().all_reduce(values); }
  void all_gather(std::span<const std::byte> piece, std::span<std::byte> gathered) override;
  void reduce_scatter(std::span<const float> values, std::span<float> piece) override;
  void all_to_all(std::span<const std::byte> send, std::span<std::byte> receive) override;
  void broadcast(std::span<std::byte> bytes, int root) override {
    scalars().broadcast(bytes, root);
  }
  void barrier() override { scalars().barrier(); }
  std::unique_ptr<Communicator> split(int colour, int key) override {
    return std::make_unique<NcclCommunicator>(rank_, scalars().split(colour, key));
  }

 private:
  class Pending;

  /// What ranks agree on must not come from exchanges that have failed.
  Communicator& scalars() {
    rank_->require_no_error();
    return *host_;
  }
  NcclChannel& channel(Tag tag) {
    auto& channel = channels_[channel_of(tag)];
    if (channel == nullptr) channel = std::make_unique<NcclChannel>(*rank_, *host_);
    return *channel;
  }
  std::string late(Tag tag, const std::string& peers) const {
    return timeout_message(rank(), peers, tag, host_->context());
  }
  /// In the order of the compute stream, as an operation of its own.
  template <class Start>
  void collective(Tag tag, size_t received, const Start& start) {
    rank_->device().begin_pause();
    const Mark done = channel(tag).run(name_of(tag), late(tag, "another rank"), start);
    compute_behind(rank_->device(), context().traffic.waited_seconds, done);
    rank_->count(received, size() - 1);
  }

  std::shared_ptr<NcclRank> rank_;
  std::unique_ptr<Communicator> host_;
  std::array<std::unique_ptr<NcclChannel>, kChannels> channels_;
};

class NcclCommunicator::Pending final : public Request::Pending {
 public:
  Pending(NcclRank& rank, Mark done) : rank_(rank), done_(std::move(done)) {}
  bool test() override {
    wait();
    return true;
  }
  void wait() override {
    rank_.require_whole();
    if (std::exchange(ordered_, true)) return;
    rank_.device().begin_pause();
    compute_behind(rank_.device(), rank_.context().traffic.waited_seconds, done_);
  }
  void abandon() noexcept override {
    try {
      rank_.watchdog().fail(
          "an exchange was left unfinished (an error ended it). See its message.");
    } catch (const std::exception&) {
      static_cast<void>(0);  // an error is under way already
    }
  }

 private:
  NcclRank& rank_;
  Mark done_;
  bool ordered_ = false;
};

Request NcclCommunicator::send_receive(std::span<const std::byte> send, int to,
                                       std::span<std::byte> receive, int from, Tag tag) {
  RINGBOLT_CHECK(to >= 0 && to < size() && from >= 0 && from < size());
  const std::string peers = to == from ? concat("rank ", to) : concat("ranks ", from, " and ", to);
  const Mark done =
      channel(tag).run(name_of(tag), late(tag, peers), [&](ncclComm_t comm, cudaStream_t stream) {
        const ncclResult_t result =
            nccl().Send(send.data(), send.size(), ncclUint8, to, comm, stream);
        return is_good(result)
                   ? nccl().Recv(receive.data(), receive.size(), ncclUint8, from, comm, stream)
                   : result;
      });
  if (from != rank()) rank_->count(receive.size(), 1);
  return Request(std::make_unique<Pending>(*rank_, done));
}

void NcclCommunicator::all_reduce(std::span<float> values) {
  const size_t part =
      (values.size() + static_cast<size_t>(size()) - 1) / static_cast<size_t>(size());
  collective(Tag::all_reduce, 2 * part * sizeof(float) * static_cast<size_t>(size() - 1),
             [&](ncclComm_t comm, cudaStream_t stream) {
               return nccl().AllReduce(values.data(), values.data(), values.size(), ncclFloat32,
                                       ncclSum, comm, stream);
             });
}

void NcclCommunicator::all_gather(std::span<const std::byte> piece, std::span<std::byte> gathered) {
  RINGBOLT_CHECK(gathered.size() == piece.size() * static_cast<size_t>(size()));
  collective(Tag::all_gather, gathered.size() - piece.size(),
             [&](ncclComm_t comm, cudaStream_t stream) {
               return nccl().AllGather(piece.data(), gathered.data(), piece.size(), ncclUint8, comm,
                                       stream);
             });
}

void NcclCommunicator::reduce_scatter(std::span<const float> values, std::span<float> piece) {
  RINGBOLT_CHECK(values.size() == piece.size() * static_cast<size_t>(size()));
  collective(Tag::reduce_scatter, (values.size() - piece.size()) * sizeof(float),
             [&](ncclComm_t comm, cudaStream_t stream) {
               return nccl().ReduceScatter(values.data(), piece.data(), piece.size(), ncclFloat32,
                                           ncclSum, comm, stream);
             });
}

void NcclCommunicator::all_to_all(std::span<const std::byte> send, std::span<std::byte> receive) {
  RINGBOLT_CHECK(send.size() == receive.size() && send.size() % static_cast<size_t>(size()) == 0);
  const size_t piece = send.size() / static_cast<size_t>(size());
  collective(Tag::all_to_all, send.size() - piece, [&](ncclComm_t comm, cudaStream_t stream) {
    ncclResult_t result = ncclSuccess;
    for (int r = 0; r < size() && is_good(result); ++r) {
      const size_t at = static_cast<size_t>(r) * piece;
      result = nccl().Send(send.data() + at, piece, ncclUint8, r, comm, stream);
      if (is_good(result))
        result = nccl().Recv(receive.data() + at, piece, ncclUint8, r, comm, stream);
    }
    return result;
  });
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, Backend& backend,
                                                     GiveUp give_up) {
  auto* device = dynamic_cast<StreamTransfers*>(backend.transfers());
  if (device == nullptr) {
    throw UsageError(message("NCCL cannot be used", "this rank does not compute on a GPU",
                             "Use --device cuda, or another --communicator."));
  }
  static_cast<void>(nccl());  // or why there is none
  if (!give_up) {
    give_up = [](const std::string& what) {
      std::fprintf(stderr, "ringbolt: %s\n", what.c_str());
      std::_Exit(EXIT_FAILURE);
    };
  }
  std::unique_ptr<Communicator> own = host.split(0, host.rank());
  auto rank = std::make_shared<NcclRank>(host, *device, backend.recorder(), std::move(give_up));
  return std::make_unique<NcclCommunicator>(std::move(rank), std::move(own));
}

std::string nccl_library() {
  int version = 0;
  if (!why_no_nccl().empty() || nccl().GetVersion(&version) != ncclSuccess) return "";
  return nccl_version_text(version);
}

}  // namespace ringbolt
