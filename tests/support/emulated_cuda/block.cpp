#include "tests/support/emulated_cuda/block.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <vector>

#include "tests/support/emulated_cuda/fibre.h"

namespace ringbolt::emulated_cuda {
namespace {

constexpr unsigned kWarp = 32;

struct Worker;

enum class State { unstarted, ready, at_block_barrier, at_warp_barrier, ended };

struct Thread {
  uint3 index{};
  State state = State::unstarted;
  unsigned number = 0;
  unsigned mask = 0;  ///< at a warp barrier: of those it waits for
  std::source_location where;
  uint64_t given = 0;
  unsigned source = 0;
  uint64_t received = 0;
  Worker* worker = nullptr;
};

/// A fibre that runs threads one after the other, for as long as they do not wait.
struct Worker {
  Worker(void (*main)(void*)) : fibre(main, this) {}
  Fibre fibre;
  Thread* next = nullptr;
};

/// The block at work on one thread of the CPU.
class Runner {
 public:
  void run(const BlockFacts& block, const Body& body, uint64_t seed);
  Thread& current() { return *current_; }
  void block_barrier(std::source_location where);
  void warp_barrier(unsigned mask, std::source_location where);

  Thread& of_warp(unsigned lane) { return threads_[current_->number / kWarp * kWarp + lane]; }
  bool has_lane(unsigned lane) const {
    return current_->number / kWarp * kWarp + lane < threads_.size();
  }
  [[noreturn]] void fail(const char* what) const;

 private:
  static void work(void* worker);
  void order_threads(uint64_t seed);
  void make_ready(Thread& thread) {
    if (thread.state != State::unstarted) thread.state = State::ready;
    ready_.push_back(&thread);
  }
  Thread* next_thread();
  void suspend();
  void exchange(unsigned mask);

  const Body* body_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<unsigned> order_;
  std::deque<Thread*> ready_;
  bool depth_first_ = false;
  size_t ended_ = 0;
  size_t at_barrier_ = 0;
  Thread* current_ = nullptr;
  Fibre caller_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> idle_;
};

thread_local Runner runner;

void Runner::fail(const char* what) const {
  std::fprintf(stderr, "emulated CUDA: %s. Block (%u, %u, %u) of %zu threads:\n", what, blockIdx.x,
               blockIdx.y, blockIdx.z, threads_.size());
  int lines = 0;
  for (const Thread& t : threads_) {
    if (++lines > 40) break;
    if (t.state == State::at_block_barrier || t.state == State::at_warp_barrier) {
      std::fprintf(stderr, "  thread %u waits for %s%08x at %s:%u\n", t.number,
                   t.state == State::at_block_barrier ? "the block, " : "lanes ", t.mask,
                   t.where.file_name(), t.where.line());
    } else {
      std::fprintf(stderr, "  thread %u %s\n", t.number,
                   t.state == State::ended ? "has ended" : "is at work");
    }
  }
  std::fflush(nullptr);
  std::abort();
}

/// A quarter of the seeds each: forward or in no order, the threads that were let go first or last
/// going on first. The latter lets one warp run far ahead of the others.
void Runner::order_threads(uint64_t seed) {
  const auto n = threads_.size();
  order_.resize(n);
  for (size_t i = 0; i < n; ++i) order_[i] = static_cast<unsigned>(i);
  std::mt19937_64 random(seed);
  if (random() % 2 == 0) {
    for (size_t i = 0; i < n; ++i) std::swap(order_[i], order_[i + random() % (n - i)]);
  } else if (random() % 2 == 0) {
    std::reverse(order_.begin(), order_.end());
  }
  depth_first_ = random() % 2 == 0;
}

void Runner::run(const BlockFacts& block, const Body& body, uint64_t seed) {
  const dim3 size = block.threads;
  threads_.assign(size_t{size.x} * size.y * size.z, Thread{});
  unsigned number = 0;
  for (unsigned z = 0; z < size.z; ++z) {
    for (unsigned y = 0; y < size.y; ++y) {
      for (unsigned x = 0; x < size.x; ++x, ++number) {
        threads_[number].index = {x, y, z};
        threads_[number].number = number;
      }
    }
  }
  blockIdx = block.index;
  blockDim = block.threads;
  gridDim = block.grid;
  dynamic_shared_memory = block.dynamic_shared;
  body_ = &body;
  ended_ = at_barrier_ = 0;
  order_threads(seed);
  ready_.clear();
  for (unsigned i : order_) ready_.push_back(&threads_[i]);
  suspend();
  current_ = nullptr;
}

Thread* Runner::next_thread() {
  if (ready_.empty()) return nullptr;
  Thread* next = depth_first_ ? ready_.back() : ready_.front();
  depth_first_ ? ready_.pop_back() : ready_.pop_front();
  return next;
}

/// Lets others run: the caller of run(), or a thread that waits, goes on when it is its turn.
void Runner::suspend() {
  Thread* self = current_;
  Fibre& here = self == nullptr ? caller_ : self->worker->fibre;
  Thread* next = next_thread();
  if (next == nullptr) fail("threads wait for others that will not come");
  if (next->state == State::unstarted) {
    if (idle_.empty()) {
      workers_.push_back(std::make_unique<Worker>(work));
      idle_.push_back(workers_.back().get());
    }
    Worker* worker = idle_.back();
    idle_.pop_back();
    worker->next = next;
    here.switch_to(worker->fibre);
  } else if (next != self) {
    here.switch_to(next->worker->fibre);
  }
  if (self == nullptr) return;
  current_ = self;
  threadIdx = self->index;
}

void Runner::work(void* argument) {
  Worker& self = *static_cast<Worker*>(argument);
  Runner& r = runner;
  for (;;) {
    Thread& thread = *self.next;
    thread.worker = &self;
    thread.state = State::ready;
    r.current_ = &thread;
    threadIdx = thread.index;
    (*r.body_)();
    thread.state = State::ended;
    ++r.ended_;
    if (r.at_barrier_ > 0) r.fail("a thread ended while others wait for the block");
    Thread* next = r.next_thread();
    if (next != nullptr && next->state == State::unstarted) {
      self.next = next;
      continue;
    }
    if (next == nullptr && r.ended_ < r.threads_.size())
      r.fail("threads wait for others that will not come");
    r.idle_.push_back(&self);
    self.fibre.switch_to(next == nullptr ? r.caller_ : next->worker->fibre);
  }
}

void Runner::block_barrier(std::source_location where) {
  Thread& self = *current_;
  self.state = State::at_block_barrier;
  self.where = where;
  if (ended_ > 0) fail("a thread waits for the block after others have ended");
  if (++at_barrier_ < threads_.size()) {
    suspend();
    return;
  }
  for (const Thread& t : threads_) {
    if (t.where.line() != where.line() || std::strcmp(t.where.file_name(), where.file_name()) != 0)
      fail("threads wait for the block at different places");
  }
  at_barrier_ = 0;
  for (unsigned i : order_) make_ready(threads_[i]);
  suspend();
}

void Runner::warp_barrier(unsigned mask, std::source_location where) {
  Thread& self = *current_;
  const unsigned lane = self.number % kWarp;
  self.state = State::at_warp_barrier;
  self.where = where;
  self.mask = mask;
  if ((mask >> lane & 1U) == 0) fail("a lane is not in the mask that it waits for");
  bool complete = true;
  for (unsigned i = 0; i < kWarp; ++i) {
    if ((mask >> i & 1U) == 0) continue;
    if (!has_lane(i) || of_warp(i).state == State::ended)
      fail("a lane of the mask is not there to meet the others");
    complete = complete && of_warp(i).state == State::at_warp_barrier;
  }
  if (!complete) return suspend();
  exchange(mask);
}

/// All lanes of the mask are there: gives each what its source gave, and lets them go.
void Runner::exchange(unsigned mask) {
  Thread& self = *current_;
  for (unsigned i = 0; i < kWarp; ++i) {
    if ((mask >> i & 1U) == 0) continue;
    Thread& t = of_warp(i);
    if (t.mask != mask || t.where.line() != self.where.line() ||
        t.where.column() != self.where.column() ||
        std::strcmp(t.where.file_name(), self.where.file_name()) != 0)
      fail("lanes of a warp meet at different places, or with different masks");
    if ((mask >> t.source & 1U) == 0) fail("a lane reads from one that is not in the mask");
    t.received = of_warp(t.source).given;
  }
  for (unsigned i = 0; i < kWarp; ++i) {
    if ((mask >> i & 1U) == 0 || &of_warp(i) == &self) continue;
    make_ready(of_warp(i));
  }
  self.state = State::ready;
}

}  // namespace

void run_block(const BlockFacts& block, const Body& body, uint64_t seed) {
  runner.run(block, body, seed);
}

void block_barrier(std::source_location where) { runner.block_barrier(where); }

void warp_barrier(unsigned mask, std::source_location where) {
  runner.current().source = lane_number();
  runner.warp_barrier(mask, where);
}

uint64_t shuffle(unsigned mask, uint64_t bits, unsigned source, std::source_location where) {
  Thread& self = runner.current();
  self.given = bits;
  self.source = source;
  runner.warp_barrier(mask, where);
  return self.received;
}

unsigned ballot(unsigned mask, bool predicate, std::source_location where) {
  unsigned bits = 0;
  for (unsigned i = 0; i < kWarp; ++i) {
    if ((mask >> i & 1U) == 0) continue;
    if (shuffle(mask, predicate ? 1 : 0, i, where) != 0) bits |= 1U << i;
  }
  return bits;
}

unsigned lane_number() { return runner.current().number % kWarp; }

}  // namespace ringbolt::emulated_cuda
