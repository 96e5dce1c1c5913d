#include "parallel/nccl.h"

#include <nccl.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/cuda/transfers.h"
#include "parallel/device_watchdog.h"

namespace ringbolt {
namespace {

using Clock = std::chrono::steady_clock;
using cuda::StreamTransfers;

/// With ncclCommFinalize and communicators that do not block.
constexpr int kOldestVersion = NCCL_VERSION(2, 18, 0);
/// The longest that the end of a communicator may take before it is aborted instead.
constexpr double kFinalizeSeconds = 20;

std::string version_text(int version) {
  return concat("NCCL ", version / 10000, ".", version / 100 % 100, ".", version % 100);
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

bool is_good(ncclResult_t result) { return result == ncclSuccess || result == ncclInProgress; }

/// What the communicators of a rank share.
class NcclRank {
 public:
  NcclRank(Communicator& host, StreamTransfers& device, GiveUp give_up)
      : host_(host),
        device_(device),
        watchdog_(device, {.poll = [this] { return poll(); },
                           .abort = [this] { abort_all(); },
                           .give_up = std::move(give_up)}) {}

  StreamTransfers& device() { return device_; }
  RankContext& context() { return host_.context(); }
  DeviceWatchdog& watchdog() { return watchdog_; }
  /// Around every call with a communicator: the watchdog aborts them from its own thread.
  std::mutex& mutex() { return mutex_; }

  void require_whole() const {
    const std::string failure = watchdog_.failure();
    if (!failure.empty()) throw CommError(failure);
  }
  [[noreturn]] void fail(const std::string& what) {
    watchdog_.fail(what);
    throw CommError(what);
  }
  std::string failed(const std::string& call, ncclResult_t result, ncclComm_t comm) const {
    const char* more = ncclGetLastError(comm);
    return message(concat("rank ", host_.rank(), ": ", call, " failed"),
                   concat(ncclGetErrorString(result), more == nullptr || *more == '\0' ? "" : ": ",
                          more == nullptr ? "" : more),
                   "Look at the rank that failed first; NCCL_DEBUG=WARN makes NCCL say more.");
  }
  void add(ncclComm_t comm) { comms_.push_back(comm); }
  /// False where the watchdog has aborted it.
  bool remove(ncclComm_t comm) { return std::erase(comms_, comm) > 0; }

 private:
  std::string poll() {
    const std::lock_guard lock(mutex_);
    for (const ncclComm_t comm : comms_) {
      ncclResult_t state = ncclSuccess;
      const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
      if (!is_good(asked)) return failed("ncclCommGetAsyncError", asked, comm);
      if (!is_good(state)) return failed("an exchange between GPUs", state, comm);
    }
    return "";
  }
  void abort_all() {
    const std::lock_guard lock(mutex_);
    for (const ncclComm_t comm : comms_) ncclCommAbort(comm);
    comms_.clear();
  }

  Communicator& host_;
  StreamTransfers& device_;
  std::mutex mutex_;
  std::vector<ncclComm_t> comms_;
  DeviceWatchdog watchdog_;
};

/// One NCCL communicator and its stream: what it is given runs in order.
class Channel {
 public:
  /// Collective over `host`.
  Channel(NcclRank& rank, Communicator& host);
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel();

  /// Gives `start(comm, stream)`, a group of NCCL calls, to the stream, behind what the compute
  /// stream was given so far. Returns the mark behind it.
  template <class Start>
  Mark run(const std::string& name, const std::string& late, const Start& start);

 private:
  static ncclUniqueId agree_on_id(NcclRank& rank, Communicator& host);
  /// Until NCCL has done what it was asked, or `seconds` (0: no limit) are over: then false.
  bool settle(const std::string& call, double seconds);

  NcclRank& rank_;
  cuda::Stream stream_;
  ncclComm_t comm_ = nullptr;
};

/// Rank 0's, or its error.
ncclUniqueId Channel::agree_on_id(NcclRank& rank, Communicator& host) {
  struct Offer {
    ncclUniqueId id;
    ncclResult_t result;
  } offer{};
  if (host.rank() == 0) offer.result = ncclGetUniqueId(&offer.id);
  host.broadcast(std::as_writable_bytes(std::span(&offer, 1)), 0);
  if (offer.result != ncclSuccess) {
    rank.fail(message("rank 0 of a group cannot begin to communicate by NCCL",
                      ncclGetErrorString(offer.result),
                      "See NCCL_SOCKET_IFNAME and the network of that machine; NCCL_DEBUG=WARN "
                      "makes NCCL say more."));
  }
  return offer.id;
}

Channel::Channel(NcclRank& rank, Communicator& host)
    : rank_(rank), stream_(cuda::make_urgent_stream()) {
  const ncclUniqueId id = agree_on_id(rank, host);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  {
    const std::lock_guard lock(rank_.mutex());
    const ncclResult_t result =
        ncclCommInitRankConfig(&comm_, host.size(), id, host.rank(), &config);
    if (comm_ != nullptr) rank_.add(comm_);
    if (!is_good(result)) rank_.fail(rank_.failed("ncclCommInitRankConfig", result, comm_));
  }
  const double seconds = rank_.context().timeout_seconds;
  if (!settle("ncclCommInitRankConfig", seconds)) {
    rank_.fail(message(concat("rank ", host.rank(), " waited ", seconds, " s for the other ",
                              host.size() - 1, " ranks of its group to begin with NCCL"),
                       "one of them hangs, was stopped, or is far behind",
                       "Look at what those ranks do; give --watchdog-seconds more if they are only "
                       "slow."));
  }
}

Channel::~Channel() {
  // After an error the other ranks may never come to the end that they must come to together.
  const bool in_order = std::uncaught_exceptions() == 0 && rank_.watchdog().failure().empty();
  bool finished = false;
  try {
    if (in_order) {
      {
        const std::lock_guard lock(rank_.mutex());
        finished = is_good(ncclCommFinalize(comm_));
      }
      finished = finished && settle("ncclCommFinalize", kFinalizeSeconds);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ringbolt: %s\n", error.what());
    finished = false;
  }
  const std::lock_guard lock(rank_.mutex());
  if (!rank_.remove(comm_)) return;
  static_cast<void>(finished ? ncclCommDestroy(comm_) : ncclCommAbort(comm_));
}

bool Channel::settle(const std::string& call, double seconds) {
  const Clock::time_point start = Clock::now();
  constexpr double kYield = 5e-3;
  constexpr std::chrono::microseconds kNap(50);
  for (;;) {
    {
      const std::lock_guard lock(rank_.mutex());
      rank_.require_whole();
      ncclResult_t state = ncclSuccess;
      const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
      if (state == ncclSuccess && asked == ncclSuccess) return true;
      if (!is_good(state) || !is_good(asked))
        rank_.fail(rank_.failed(call, is_good(state) ? asked : state, comm_));
    }
    const double waited = seconds_since(start);
    if (seconds > 0 && waited > seconds) return false;
    if (waited > kYield) {
      std::this_thread::sleep_for(kNap);
    } else {
      sched_yield();
    }
  }
}

template <class Start>
Mark Channel::run(const std::string& name, const std::string& late, const Start& start) {
  const Mark ready = rank_.device().computed();
  StreamTransfers::after(stream_.get(), ready);
  {
    const std::lock_guard lock(rank_.mutex());
    rank_.require_whole();
    ncclResult_t result = ncclGroupStart();
    if (is_good(result)) {
      const ncclResult_t started = start(comm_, stream_.get());
      result = ncclGroupEnd();
      if (!is_good(started)) result = started;
    }
    if (!is_good(result)) rank_.fail(rank_.failed(name, result, comm_));
  }
  const double seconds = rank_.context().timeout_seconds;
  if (!settle(name, seconds))
    rank_.fail(late);  // the first message between two ranks connects them
  const Mark done = StreamTransfers::behind(stream_.get());
  rank_.watchdog().watch({ready, done, seconds, late});
  return done;
}

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
    rank_->require_whole();
    return *host_;
  }
  Channel& channel(Tag tag) {
    auto& channel = channels_[channel_of(tag)];
    if (channel == nullptr) channel = std::make_unique<Channel>(*rank_, *host_);
    return *channel;
  }
  std::string late(Tag tag, const std::string& peers) const {
    return timeout_message(rank(), peers, tag, host_->context());
  }
  void count(size_t bytes, int64_t messages) {
    context().traffic.received_bytes += static_cast<int64_t>(bytes);
    context().traffic.messages += messages;
  }
  /// In the order of the compute stream, as an operation of its own.
  template <class Start>
  void collective(Tag tag, size_t received, const Start& start) {
    rank_->device().begin_pause();
    const Mark done = channel(tag).run(name_of(tag), late(tag, "another rank"), start);
    compute_behind(rank_->device(), context().traffic.waited_seconds, done);
    count(received, size() - 1);
  }

  std::shared_ptr<NcclRank> rank_;
  std::unique_ptr<Communicator> host_;
  std::array<std::unique_ptr<Channel>, kChannels> channels_;
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
        const ncclResult_t result = ncclSend(send.data(), send.size(), ncclUint8, to, comm, stream);
        return is_good(result)
                   ? ncclRecv(receive.data(), receive.size(), ncclUint8, from, comm, stream)
                   : result;
      });
  if (from != rank()) count(receive.size(), 1);
  return Request(std::make_unique<Pending>(*rank_, done));
}

void NcclCommunicator::all_reduce(std::span<float> values) {
  const size_t part =
      (values.size() + static_cast<size_t>(size()) - 1) / static_cast<size_t>(size());
  collective(Tag::all_reduce, 2 * part * sizeof(float) * static_cast<size_t>(size() - 1),
             [&](ncclComm_t comm, cudaStream_t stream) {
               return ncclAllReduce(values.data(), values.data(), values.size(), ncclFloat32,
                                    ncclSum, comm, stream);
             });
}

void NcclCommunicator::all_gather(std::span<const std::byte> piece, std::span<std::byte> gathered) {
  RINGBOLT_CHECK(gathered.size() == piece.size() * static_cast<size_t>(size()));
  collective(
      Tag::all_gather, gathered.size() - piece.size(), [&](ncclComm_t comm, cudaStream_t stream) {
        return ncclAllGather(piece.data(), gathered.data(), piece.size(), ncclUint8, comm, stream);
      });
}

void NcclCommunicator::reduce_scatter(std::span<const float> values, std::span<float> piece) {
  RINGBOLT_CHECK(values.size() == piece.size() * static_cast<size_t>(size()));
  collective(Tag::reduce_scatter, (values.size() - piece.size()) * sizeof(float),
             [&](ncclComm_t comm, cudaStream_t stream) {
               return ncclReduceScatter(values.data(), piece.data(), piece.size(), ncclFloat32,
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
      result = ncclSend(send.data() + at, piece, ncclUint8, r, comm, stream);
      if (is_good(result))
        result = ncclRecv(receive.data() + at, piece, ncclUint8, r, comm, stream);
    }
    return result;
  });
}

void require_version() {
  int version = 0;
  const ncclResult_t result = ncclGetVersion(&version);
  if (result == ncclSuccess && version >= kOldestVersion) return;
  throw CommError(message(concat("this NCCL cannot be used: ", version_text(version)),
                          concat(version_text(kOldestVersion), " or newer is needed"),
                          "See which libnccl.so.2 the program finds (LD_LIBRARY_PATH), or use "
                          "--communicator copy."));
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, Backend& backend,
                                                     GiveUp give_up) {
  auto* device = dynamic_cast<StreamTransfers*>(backend.transfers());
  if (device == nullptr) {
    throw UsageError(message("NCCL cannot be used", "this rank does not compute on a GPU",
                             "Use --device cuda, or another --communicator."));
  }
  require_version();
  if (!give_up) {
    give_up = [](const std::string& what) {
      std::fprintf(stderr, "ringbolt: %s\n", what.c_str());
      std::_Exit(EXIT_FAILURE);
    };
  }
  std::unique_ptr<Communicator> own = host.split(0, host.rank());
  auto rank = std::make_shared<NcclRank>(host, *device, std::move(give_up));
  return std::make_unique<NcclCommunicator>(std::move(rank), std::move(own));
}

std::string nccl_library() {
  int version = 0;
  return ncclGetVersion(&version) == ncclSuccess ? version_text(version) : "";
}

}  // namespace ringbolt
