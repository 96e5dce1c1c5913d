// Ranks as threads, with the few collectives that io uses: enough to write the shards of several
// ranks in one process.
#pragma once

#include <barrier>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "parallel/communicator.h"

namespace ringbolt::test {

struct SharedRanks {
  explicit SharedRanks(int n) : barrier(n), pieces(static_cast<size_t>(n)) {}
  std::barrier<> barrier;
  std::vector<std::span<const std::byte>> pieces;
};

class ThreadRank final : public Communicator {
 public:
  ThreadRank(int rank, int size, SharedRanks& shared) : rank_(rank), size_(size), shared_(shared) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void all_gather(std::span<const std::byte> piece, std::span<std::byte> gathered) override {
    share(piece);
    std::byte* to = gathered.data();
    for (const auto& p : shared_.pieces) to = std::copy(p.begin(), p.end(), to);
    barrier();
  }
  void broadcast(std::span<std::byte> bytes, int root) override {
    share(bytes);
    const auto& from = shared_.pieces[static_cast<size_t>(root)];
    if (rank_ != root) std::copy(from.begin(), from.end(), bytes.begin());
    barrier();
  }
  void barrier() override { shared_.barrier.arrive_and_wait(); }

  RankContext& context() override { return context_; }
  Request send_receive(std::span<const std::byte>, int, std::span<std::byte>, int, Tag) override {
    unused();
  }
  void all_reduce(std::span<float>) override { unused(); }
  void all_reduce(std::span<double>) override { unused(); }
  void all_reduce(std::span<int64_t>) override { unused(); }
  void reduce_scatter(std::span<const float>, std::span<float>) override { unused(); }
  void all_to_all(std::span<const std::byte>, std::span<std::byte>) override { unused(); }
  std::unique_ptr<Communicator> split(int, int) override { unused(); }

 private:
  [[noreturn]] static void unused() { std::terminate(); }
  void share(std::span<const std::byte> piece) {
    shared_.pieces[static_cast<size_t>(rank_)] = piece;
    barrier();
  }
  int rank_;
  int size_;
  SharedRanks& shared_;
  RankContext context_;
};

/// Runs `body` on n ranks; returns what each threw ("" for nothing).
inline std::vector<std::string> run_ranks(int n, const std::function<void(Communicator&)>& body) {
  SharedRanks shared(n);
  std::vector<std::string> errors(static_cast<size_t>(n));
  std::vector<std::thread> threads;
  for (int r = 0; r < n; ++r) {
    threads.emplace_back([&, r] {
      ThreadRank rank(r, n, shared);
      try {
        body(rank);
      } catch (const std::exception& error) {
        errors[static_cast<size_t>(r)] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

}  // namespace ringbolt::test
