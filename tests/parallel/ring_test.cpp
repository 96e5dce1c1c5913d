// The ring primitive: what visits whom, when it is sent, what is added.
#include "parallel/ring.h"

#include <atomic>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "parallel/threads.h"

namespace ringbolt {
namespace {

constexpr double kTimeout = 60;
constexpr int64_t kElements = 5;

/// Forwards to a communicator and notes what was sent, in order with what others note.
class NotingCommunicator final : public Communicator {
 public:
  NotingCommunicator(Communicator& of, std::vector<std::string>& notes) : of_(of), notes_(notes) {}
  int rank() const override { return of_.rank(); }
  int size() const override { return of_.size(); }
  RankContext& context() override { return of_.context(); }
  Request send_receive(std::span<const std::byte> send, int to, std::span<std::byte> receive,
                       int from, Tag tag) override {
    notes_.push_back(tag == Tag::ring_operand ? "send block" : "send sum");
    return of_.send_receive(send, to, receive, from, tag);
  }
  Request send_receive_on(Transfers& device, std::span<const std::byte> send, int to,
                          std::span<std::byte> receive, int from, Tag tag) override {
    return of_.send_receive_on(device, send, to, receive, from, tag);
  }
  void all_reduce(std::span<float> values) override { of_.all_reduce(values); }
  void all_reduce(std::span<double> values) override { of_.all_reduce(values); }
  void all_reduce(std::span<int64_t> values) override { of_.all_reduce(values); }
  void all_gather(std::span<const std::byte> piece, std::span<std::byte> gathered) override {
    of_.all_gather(piece, gathered);
  }
  void reduce_scatter(std::span<const float> values, std::span<float> piece) override {
    of_.reduce_scatter(values, piece);
  }
  void all_to_all(std::span<const std::byte> send, std::span<std::byte> receive) override {
    of_.all_to_all(send, receive);
  }
  void broadcast(std::span<std::byte> bytes, int root) override { of_.broadcast(bytes, root); }
  void barrier() override { of_.barrier(); }
  std::unique_ptr<Communicator> split(int colour, int key) override {
    return of_.split(colour, key);
  }

 private:
  Communicator& of_;
  std::vector<std::string>& notes_;
};

/// A block that says whose it is.
Tensor block_of(Backend& backend, int rank) {
  const std::vector<float> values(kElements, static_cast<float>(rank));
  return upload_new(backend, DType::f32, {kElements}, values.data());
}

int owner_in(ConstBytes block) {
  return static_cast<int>(*reinterpret_cast<const float*>(block.data()));
}

template <class Body>
void on_ranks(int ranks, const Body& body) {
  run_thread_ranks(ranks, kTimeout, [&](Communicator& world) {
    const std::unique_ptr<Backend> backend = make_cpu_backend(1);
    body(world, *backend);
  });
}

TEST(RingVisit, BringsEveryBlockToEveryRankOnesOwnFirstAndUncopied) {
  for (const int ranks : {1, 2, 3, 4, 8}) {
    on_ranks(ranks, [&](Communicator& world, Backend& backend) {
      const Tensor own = block_of(backend, world.rank());
      BlockBuffers buffers(backend, world, DType::f32, own.shape());
      Overlap overlap(backend);
      std::vector<int> owners;
      const int64_t before = world.context().traffic.messages;
      ring_visit(world, overlap, bytes_of(own.view()), buffers,
                 [&](int step, int owner, ConstBytes block) {
                   EXPECT_EQ(step == 0, block.data() == own.view().bytes());
                   EXPECT_EQ(owner_in(block), owner);
                   EXPECT_EQ(owner, (world.rank() - step + ranks) % ranks);
                   owners.push_back(owner);
                 });
      EXPECT_EQ(std::set<int>(owners.begin(), owners.end()).size(), static_cast<size_t>(ranks));
      EXPECT_EQ(owners.size(), static_cast<size_t>(ranks));
      EXPECT_EQ(world.context().traffic.messages - before, ranks - 1);
    });
  }
}

TEST(RingVisit, SendsBeforeTheBodyRunsAndNothingInTheLastStep) {
  on_ranks(3, [&](Communicator& world, Backend& backend) {
    std::vector<std::string> notes;
    NotingCommunicator noting(world, notes);
    const Tensor own = block_of(backend, world.rank());
    BlockBuffers buffers(backend, world, DType::f32, own.shape());
    Overlap overlap(backend);
    ring_visit(noting, overlap, bytes_of(own.view()), buffers,
               [&](int, int, ConstBytes) { notes.push_back("body"); });
    EXPECT_EQ(notes,
              (std::vector<std::string>{"send block", "body", "send block", "body", "body"}));
  });
}

/// What rank `rank` contributes to the sum of `owner`'s block: all different, exact in f32.
float share(int rank, int owner) { return static_cast<float>(1 + rank * 16 + owner); }

float expected_sum(int ranks, int owner) {
  float sum = 0;
  for (int rank = 0; rank < ranks; ++rank) sum += share(rank, owner);
  return sum;
}

void add_share(View sum, float value) {
  for (int64_t i = 0; i < sum.elements(); ++i) sum.data<float>()[i] += value;
}

void expect_all(ConstView x, float value) {
  for (int64_t i = 0; i < x.elements(); ++i) EXPECT_EQ(x.data<float>()[i], value);
}

TEST(RingAccumulate, BringsEachOwnerTheSumOfAllRanks) {
  for (const int ranks : {1, 2, 3, 4, 8}) {
    on_ranks(ranks, [&](Communicator& world, Backend& backend) {
      const Tensor own = block_of(backend, world.rank());
      Tensor home = block_of(backend, -77);
      BlockBuffers buffers(backend, world, DType::f32, own.shape());
      SumBuffers sums(backend, world, home.shape());
      Overlap overlap(backend);
      for (int round = 0; round < 2; ++round) {  // buffers that were used already
        const int64_t before = world.context().traffic.messages;
        ring_accumulate(
            world, overlap, backend, bytes_of(own.view()), buffers, home, sums,
            [&](int owner, ConstBytes block, View sum) {
              EXPECT_EQ(owner_in(block), owner);
              expect_all(sum, 0);
              add_share(sum, share(world.rank(), owner));
            },
            [](ConstBytes, View) {});
        expect_all(home, expected_sum(ranks, world.rank()));
        EXPECT_EQ(world.context().traffic.messages - before, 2 * (ranks - 1));
      }
    });
  }
}

TEST(RingAccumulate, SendsASumBehindItsBlockAndKeepsOnesOwn) {
  on_ranks(3, [&](Communicator& world, Backend& backend) {
    std::vector<std::string> notes;
    NotingCommunicator noting(world, notes);
    const Tensor own = block_of(backend, world.rank());
    Tensor home = block_of(backend, 0);
    BlockBuffers buffers(backend, world, DType::f32, own.shape());
    SumBuffers sums(backend, world, home.shape());
    Overlap overlap(backend);
    ring_accumulate(
        noting, overlap, backend, bytes_of(own.view()), buffers, home, sums,
        [&](int, ConstBytes, View) { notes.push_back("body"); },
        [&](ConstBytes, View) { notes.push_back("finish"); });
    EXPECT_EQ(notes, (std::vector<std::string>{"send block", "body", "send block", "body",
                                               "send sum", "body", "send sum", "finish"}));
  });
}

TEST(RingAccumulate, AddsWhatWasLeftOfOnesOwnShare) {
  for (const int ranks : {1, 2, 3, 4}) {
    on_ranks(ranks, [&](Communicator& world, Backend& backend) {
      const Tensor own = block_of(backend, world.rank());
      Tensor home = block_of(backend, -77);
      BlockBuffers buffers(backend, world, DType::f32, own.shape());
      SumBuffers sums(backend, world, home.shape());
      Overlap overlap(backend);
      ring_accumulate(
          world, overlap, backend, bytes_of(own.view()), buffers, home, sums,
          [&](int owner, ConstBytes, View sum) {
            if (owner != world.rank()) add_share(sum, share(world.rank(), owner));
          },
          [&](ConstBytes block, View sum) {
            EXPECT_EQ(block.data(), own.view().bytes());
            add_share(sum, share(world.rank(), world.rank()));
          });
      expect_all(home, expected_sum(ranks, world.rank()));
    });
  }
}

TEST(RingAccumulate, NestsAsADoubleRing) {
  for (const auto& [nodes, inner_size] : {std::pair{2, 2}, {2, 4}, {4, 2}, {3, 2}}) {
    on_ranks(nodes * inner_size,
             [&, inner_size = inner_size](Communicator& world, Backend& backend) {
               const int node = world.rank() / inner_size;
               const auto inner = world.split(node, world.rank());
               const auto outer = world.split(world.rank() % inner_size, world.rank());
               const Tensor own = block_of(backend, world.rank());
               Tensor home = block_of(backend, 0);
               BlockBuffers outer_blocks(backend, *outer, DType::f32, own.shape());
               BlockBuffers inner_blocks(backend, *inner, DType::f32, own.shape());
               SumBuffers outer_sums(backend, *outer, home.shape());
               SumBuffers inner_sums(backend, *inner, home.shape());
               Overlap overlap(backend);
               int visited = 0;
               ring_accumulate(
                   *outer, overlap, backend, bytes_of(own.view()), outer_blocks, home, outer_sums,
                   [&](int owner_node, ConstBytes of_node, View node_sum) {
                     ring_accumulate(
                         *inner, overlap, backend, of_node, inner_blocks, node_sum, inner_sums,
                         [&](int owner_inner, ConstBytes block, View sum) {
                           const int owner = owner_node * inner_size + owner_inner;
                           EXPECT_EQ(owner_in(block), owner);
                           add_share(sum, share(world.rank(), owner));
                           ++visited;
                         },
                         [](ConstBytes, View) {});
                   },
                   [](ConstBytes, View) {});
               EXPECT_EQ(visited, world.size());
               expect_all(home, expected_sum(world.size(), world.rank()));
             });
  }
}

TEST(RingVisit, EndsAllRanksWithTheErrorOfABody) {
  std::atomic<int> finished = 0;
  EXPECT_THROW(on_ranks(3,
                        [&](Communicator& world, Backend& backend) {
                          const Tensor own = block_of(backend, world.rank());
                          BlockBuffers buffers(backend, world, DType::f32, own.shape());
                          Overlap overlap(backend);
                          ring_visit(world, overlap, bytes_of(own.view()), buffers,
                                     [&](int step, int, ConstBytes) {
                                       if (world.rank() == 1 && step == 1) throw UsageError("no");
                                     });
                          world.barrier();
                          ++finished;
                        }),
               UsageError);
  EXPECT_EQ(finished, 0);
}

/// Counts how often it is driven; fails from the `fails_at`-th time on.
struct CountedPending final : Request::Pending {
  CountedPending(int& count, int fails) : driven(count), fails_at(fails) {}
  bool test() override {
    if (++driven >= fails_at) throw CommError("the other rank is gone");
    return false;
  }
  void wait() override {}
  int& driven;
  int fails_at;
};

/// Attention of 512 tokens: some milliseconds.
void compute(Backend& backend) {
  const int64_t n = 512;
  Tensor x = backend.allocate(DType::f32, {n, 2, 64});
  backend.fill_zero(x);
  Tensor out = backend.allocate(DType::f32, {n, 2, 64});
  Tensor lse = backend.allocate(DType::f32, {n, 2});
  const std::vector<AttentionSlice> all{{0, n, 0, n, AttentionSlice::Mask::full, 0}};
  backend.begin_attention(out, lse);
  backend.attention_forward(all, x, x, x, 1, out, lse);
}

TEST(Overlap, DrivesTheExchangesUnderWayWhileTheBackendComputes) {
  const std::unique_ptr<Backend> backend = make_cpu_backend(1);
  int driven_outer = 0;
  int driven_inner = 0;
  {
    Overlap overlap(*backend);
    Request outer(std::make_unique<CountedPending>(driven_outer, 1 << 30));
    const Overlap::Scope outer_scope(overlap, outer);
    {
      Request inner(std::make_unique<CountedPending>(driven_inner, 1 << 30));
      const Overlap::Scope inner_scope(overlap, inner);
      compute(*backend);
      EXPECT_GT(driven_inner, 0);
      EXPECT_GT(driven_outer, 0);
    }
    const int before = driven_inner;
    compute(*backend);
    EXPECT_EQ(driven_inner, before) << "driven beyond its scope";
  }
  const int before = driven_outer;
  compute(*backend);
  EXPECT_EQ(driven_outer, before) << "driven beyond the ring";
}

TEST(Overlap, LetsAnErrorOutOfTheKernelAndLeavesTheBackendUsable) {
  const std::unique_ptr<Backend> backend = make_cpu_backend(1);
  int driven = 0;
  const auto run = [&] {
    Overlap overlap(*backend);
    Request failing(std::make_unique<CountedPending>(driven, 1));
    const Overlap::Scope scope(overlap, failing);
    compute(*backend);
  };
  EXPECT_THROW(run(), CommError);
  EXPECT_EQ(driven, 1);
  EXPECT_NO_THROW(compute(*backend));
  EXPECT_EQ(driven, 1);
}

}  // namespace
}  // namespace ringbolt
