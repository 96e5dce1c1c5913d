#include "parallel/pairwise.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <numeric>
#include <utility>

#include "core/base/error.h"

namespace ringbolt {
namespace {

/// Sums whose gathered values are no larger than this are formed by all ranks from all values: one
/// exchange instead of two.
constexpr int64_t kGatherBytes = 64 << 10;
/// What reduce_parts holds, two sets of one piece a rank: stays in the cache where ranks are few.
constexpr int64_t kReduceBytes = 1 << 20;
constexpr int64_t kLeastChunkBytes = 16 << 10;

/// A collective's whole time is waiting: no computation hides it.
class CollectiveTimer {
 public:
  explicit CollectiveTimer(Traffic& traffic)
      : traffic_(traffic), before_(traffic.waited_seconds), start_(Clock::now()) {}
  ~CollectiveTimer() {
    // Its inner waits are part of it.
    traffic_.waited_seconds =
        before_ + std::chrono::duration<double>(Clock::now() - start_).count();
  }
  CollectiveTimer(const CollectiveTimer&) = delete;
  CollectiveTimer& operator=(const CollectiveTimer&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  Traffic& traffic_;
  double before_;
  Clock::time_point start_;
};

void check_sizes(bool agree, Tag tag) {
  if (agree) return;
  throw CommError(message(concat(name_of(tag), " was given buffers that do not fit each other"),
                          "one holds a piece for each rank of what the other holds",
                          "This is a defect of Ringbolt."));
}

void copy(std::span<const std::byte> from, std::span<std::byte> to) {
  if (from.data() != to.data()) std::copy(from.begin(), from.end(), to.begin());
}

void wait_all(std::vector<Request>& requests) {
  for (Request& request : requests) request.wait();
  requests.clear();
}

/// sum[i] = terms[0][i] + terms[1][i] + …; `sum` may be any of the terms.
template <class T>
void add_in_order(std::span<const T* const> terms, std::span<T> sum) {
  std::array<T, 512> block;
  for (size_t first = 0; first < sum.size(); first += block.size()) {
    const size_t n = std::min(block.size(), sum.size() - first);
    std::copy_n(terms[0] + first, n, block.begin());
    for (const T* term : terms.subspan(1)) {
      for (size_t i = 0; i < n; ++i) block[i] += term[first + i];
    }
    std::copy_n(block.begin(), n, sum.begin() + static_cast<std::ptrdiff_t>(first));
  }
}

}  // namespace

PairwiseCommunicator::PairwiseCommunicator(Transport& transport)
    : transport_(transport),
      members_(static_cast<size_t>(transport.size())),
      rank_(transport.rank()),
      channel_(0) {
  std::iota(members_.begin(), members_.end(), 0);
}

PairwiseCommunicator::PairwiseCommunicator(Transport& transport, std::vector<int> members, int rank,
                                           int64_t channel)
    : transport_(transport), members_(std::move(members)), rank_(rank), channel_(channel) {}

Request PairwiseCommunicator::post(std::span<const std::byte> send, int to,
                                   std::span<std::byte> receive, int from, Tag tag,
                                   Transfers* device) {
  const auto world = [&](int r) { return r < 0 ? -1 : members_[static_cast<size_t>(r)]; };
  return transport_.post({.channel = channel_,
                          .tag = tag,
                          .to = world(to),
                          .send = send,
                          .from = world(from),
                          .receive = receive,
                          .device = device});
}

Request PairwiseCommunicator::send_receive(std::span<const std::byte> send, int to,
                                           std::span<std::byte> receive, int from, Tag tag) {
  RINGBOLT_CHECK(to >= 0 && to < size() && from >= 0 && from < size());
  return post(send, to, receive, from, tag);
}

Request PairwiseCommunicator::send_receive_on(Transfers& device, std::span<const std::byte> send,
                                              int to, std::span<std::byte> receive, int from,
                                              Tag tag) {
  RINGBOLT_CHECK(to >= 0 && to < size() && from >= 0 && from < size());
  return post(send, to, receive, from, tag, &device);
}

void PairwiseCommunicator::gather(std::span<const std::byte> piece, std::span<std::byte> gathered,
                                  Tag tag) {
  check_sizes(gathered.size() == piece.size() * members_.size(), tag);
  const auto place = [&](int r) {
    return gathered.subspan(static_cast<size_t>(r) * piece.size(), piece.size());
  };
  std::vector<Request> requests;
  for (int step = 1; step < size(); ++step) {
    const int from = rank_before(step);
    requests.push_back(post(piece, rank_after(step), place(from), from, tag));
  }
  copy(piece, place(rank_));
  wait_all(requests);
}

void PairwiseCommunicator::all_gather(std::span<const std::byte> piece,
                                      std::span<std::byte> gathered) {
  const CollectiveTimer timer(context().traffic);
  gather(piece, gathered, Tag::all_gather);
}

void PairwiseCommunicator::all_to_all(std::span<const std::byte> send,
                                      std::span<std::byte> receive) {
  const CollectiveTimer timer(context().traffic);
  check_sizes(send.size() == receive.size() && send.size() % members_.size() == 0, Tag::all_to_all);
  const size_t piece = send.size() / members_.size();
  const auto at = [&](int r) { return static_cast<size_t>(r) * piece; };
  std::vector<Request> requests;
  for (int step = 1; step < size(); ++step) {
    const int to = rank_after(step);
    const int from = rank_before(step);
    requests.push_back(post(send.subspan(at(to), piece), to, receive.subspan(at(from), piece), from,
                            Tag::all_to_all));
  }
  copy(send.subspan(at(rank_), piece), receive.subspan(at(rank_), piece));
  wait_all(requests);
}

/// A binomial tree: the ranks that have the bytes double with each step.
void PairwiseCommunicator::broadcast(std::span<std::byte> bytes, int root) {
  const CollectiveTimer timer(context().traffic);
  RINGBOLT_CHECK(root >= 0 && root < size());
  const int from_root = (rank_ + size() - root) % size();
  std::vector<Request> sends;
  for (int have = 1; have < size(); have *= 2) {
    if (from_root >= have && from_root < 2 * have) {
      post({}, -1, bytes, rank_before(have), Tag::broadcast).wait();
    } else if (from_root < have && from_root + have < size()) {
      sends.push_back(post(bytes, rank_after(have), {}, -1, Tag::broadcast));
    }
  }
  wait_all(sends);
}

/// After step k each rank has heard, directly or not, of the 2^(k+1) ranks up to itself.
void PairwiseCommunicator::barrier() {
  const CollectiveTimer timer(context().traffic);
  for (int step = 1; step < size(); step *= 2) {
    post({}, rank_after(step), {}, rank_before(step), Tag::barrier).wait();
  }
}

template <class T>
void PairwiseCommunicator::reduce_parts(std::span<const T> values, int64_t part, std::span<T> piece,
                                        Tag tag) {
  const int64_t all = static_cast<int64_t>(values.size());
  const int64_t others = size() - 1;
  const int64_t chunk =
      std::max(kLeastChunkBytes, kReduceBytes / 2 / std::max<int64_t>(others, 1)) /
      static_cast<int64_t>(sizeof(T));
  const int64_t held = std::min(chunk, part);  // of a part at a time
  // Chunk c of rank r's part.
  const auto range = [&](int r, int64_t c) {
    const int64_t end = std::min(all, part * (r + 1));
    const int64_t first = std::min(end, part * r + c * held);
    return values.subspan(static_cast<size_t>(first),
                          static_cast<size_t>(std::min(held, end - first)));
  };
  std::array<std::vector<T>, 2>
      received;  // (others, held): by turns, one arrives while one is added
  std::array<std::vector<Request>, 2> requests;
  const auto begin = [&](int64_t c) {
    std::vector<T>& buffer = received[static_cast<size_t>(c % 2)];
    buffer.resize(static_cast<size_t>(others * held));
    const size_t mine = range(rank_, c).size();
    for (int step = 1; step < size(); ++step) {
      const int to = rank_after(step);
      const int from = rank_before(step);
      const std::span<const T> theirs = range(to, c);
      const std::span<T> place =
          std::span(buffer).subspan(static_cast<size_t>((step - 1) * held), mine);
      if (theirs.empty() && mine == 0) continue;
      requests[static_cast<size_t>(c % 2)].push_back(
          post(std::as_bytes(theirs), theirs.empty() ? -1 : to, std::as_writable_bytes(place),
               mine == 0 ? -1 : from, tag));
    }
  };
  const int64_t chunks = held == 0 ? 0 : (part + held - 1) / held;
  std::vector<const T*> terms(members_.size());
  if (chunks > 0) begin(0);
  for (int64_t c = 0; c < chunks; ++c) {
    if (c + 1 < chunks) begin(c + 1);
    wait_all(requests[static_cast<size_t>(c % 2)]);
    const std::span<const T> own = range(rank_, c);
    for (int step = 1; step < size(); ++step) {
      terms[static_cast<size_t>(rank_before(step))] =
          received[static_cast<size_t>(c % 2)].data() + (step - 1) * held;
    }
    terms[static_cast<size_t>(rank_)] = own.data();
    add_in_order<T>(terms,
                    piece.subspan(static_cast<size_t>(std::min(c * held, part)), own.size()));
  }
}

template <class T>
void PairwiseCommunicator::reduce_by_gathering(std::span<T> values) {
  std::vector<T> gathered(values.size() * members_.size());
  gather(std::as_bytes(values), std::as_writable_bytes(std::span(gathered)), Tag::all_reduce);
  std::vector<const T*> terms;
  for (size_t r = 0; r < members_.size(); ++r) terms.push_back(gathered.data() + r * values.size());
  add_in_order<T>(terms, values);
}

template <class T>
void PairwiseCommunicator::reduce_all(std::span<T> values) {
  const CollectiveTimer timer(context().traffic);
  const int64_t n = static_cast<int64_t>(values.size());
  if (size() == 1 || n == 0) return;
  if (n * size() * static_cast<int64_t>(sizeof(T)) <= kGatherBytes)
    return reduce_by_gathering(values);
  // Part r is summed by rank r; the last parts may be short or empty.
  const int64_t part = (n + size() - 1) / size();
  const auto part_of = [&](int r) {
    const int64_t first = std::min(n, part * r);
    return values.subspan(static_cast<size_t>(first),
                          static_cast<size_t>(std::min(part, n - first)));
  };
  const std::span<T> own = part_of(rank_);
  reduce_parts<T>(values, part, own, Tag::all_reduce);
  std::vector<Request> requests;
  for (int step = 1; step < size(); ++step) {
    const int to = rank_after(step);
    const int from = rank_before(step);
    const std::span<T> theirs = part_of(from);
    requests.push_back(post(std::as_bytes(own), own.empty() ? -1 : to,
                            std::as_writable_bytes(theirs), theirs.empty() ? -1 : from,
                            Tag::all_reduce));
  }
  wait_all(requests);
}

void PairwiseCommunicator::all_reduce(std::span<float> values) { reduce_all(values); }
void PairwiseCommunicator::all_reduce(std::span<double> values) { reduce_all(values); }
void PairwiseCommunicator::all_reduce(std::span<int64_t> values) { reduce_all(values); }

void PairwiseCommunicator::reduce_scatter(std::span<const float> values, std::span<float> piece) {
  const CollectiveTimer timer(context().traffic);
  check_sizes(values.size() == piece.size() * members_.size(), Tag::reduce_scatter);
  reduce_parts<float>(values, static_cast<int64_t>(piece.size()), piece, Tag::reduce_scatter);
}

std::unique_ptr<Communicator> PairwiseCommunicator::split(int colour, int key) {
  struct Wish {
    int64_t colour, key, channel, rank;
  };
  const CollectiveTimer timer(context().traffic);
  const Wish mine{colour, key, transport_.next_channel(), rank_};
  std::vector<Wish> wishes(members_.size());
  gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(wishes)), Tag::split);
  // Above every channel that any of these ranks uses; groups of one split share no rank, and so no
  // message.
  int64_t channel = 0;
  for (const Wish& wish : wishes) channel = std::max(channel, wish.channel);
  transport_.use_channel(channel);
  std::erase_if(wishes, [&](const Wish& wish) { return wish.colour != colour; });
  std::stable_sort(wishes.begin(), wishes.end(),
                   [](const Wish& a, const Wish& b) { return a.key < b.key; });
  std::vector<int> members;
  int rank = 0;
  for (const Wish& wish : wishes) {
    if (wish.rank == rank_) rank = static_cast<int>(members.size());
    members.push_back(members_[static_cast<size_t>(wish.rank)]);
  }
  return std::unique_ptr<Communicator>(
      new PairwiseCommunicator(transport_, std::move(members), rank, channel));
}

}  // namespace ringbolt
