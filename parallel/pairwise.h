// Every collective from exchanges between pairs of ranks, over any transport.
//
// Sums are formed piece by piece on one rank, in rank order, and then given to all: every rank gets
// the same bits, whatever arrived first. Nothing here allocates a multiple of a whole buffer; what
// is added passes through a few MiB.
#pragma once

#include <memory>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/transport.h"

namespace ringbolt {

class PairwiseCommunicator final : public Communicator {
 public:
  /// All ranks of the transport, which must outlive it and all that is split from it.
  explicit PairwiseCommunicator(Transport& transport);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }
  RankContext& context() override { return transport_.context(); }

  Request send_receive(std::span<const std::byte> send, int to, std::span<std::byte> receive,
                       int from, Tag tag) override;
  Request send_receive_on(Transfers& device, std::span<const std::byte> send, int to,
                          std::span<std::byte> receive, int from, Tag tag) override;
  void all_reduce(std::span<float> values) override;
  void all_reduce(std::span<double> values) override;
  void all_reduce(std::span<int64_t> values) override;
  void all_gather(std::span<const std::byte> piece, std::span<std::byte> gathered) override;
  void reduce_scatter(std::span<const float> values, std::span<float> piece) override;
  void all_to_all(std::span<const std::byte> send, std::span<std::byte> receive) override;
  void broadcast(std::span<std::byte> bytes, int root) override;
  void barrier() override;
  std::unique_ptr<Communicator> split(int colour, int key) override;

 private:
  PairwiseCommunicator(Transport& transport, std::vector<int> members, int rank, int64_t channel);

  /// As send_receive; -1 for no message in that direction.
  Request post(std::span<const std::byte> send, int to, std::span<std::byte> receive, int from,
               Tag tag, Transfers* device = nullptr);
  /// Ranks in the order in which this one turns to them, so that no rank is everybody's first.
  int rank_after(int steps) const { return (rank_ + steps) % size(); }
  int rank_before(int steps) const { return (rank_ + size() - steps) % size(); }

  void gather(std::span<const std::byte> piece, std::span<std::byte> gathered, Tag tag);
  /// Rank r sums `values`' elements [r part, (r + 1) part), as far as there are any, into `piece`,
  /// which may be any of those parts.
  template <class T>
  void reduce_parts(std::span<const T> values, int64_t part, std::span<T> piece, Tag tag);
  template <class T>
  void reduce_all(std::span<T> values);
  template <class T>
  void reduce_by_gathering(std::span<T> values);

  Transport& transport_;
  std::vector<int> members_;  ///< the world's rank of each of ours
  int rank_;
  int64_t channel_;
};

}  // namespace ringbolt
