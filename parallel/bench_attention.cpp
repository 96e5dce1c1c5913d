#include "parallel/bench_attention.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "core/bench/random_data.h"
#include "core/bench/workloads.h"

namespace ringbolt {
namespace {

/// One rank's operands and results.
class Work {
 public:
  Work(Backend& backend, Mesh& mesh, const AttentionJob& job, LayoutKind kind,
       const AttentionChoice& choice)
      : layout_(kind, std::vector<int64_t>{0, job.tokens}, mesh.shape().ring(), mesh.shape().head),
        attention_(make_distributed_attention(backend, mesh, layout_, job.mask, choice)) {
    const int64_t rows = layout_.tokens_per_rank() / mesh.shape().head;
    const Shape query{rows, job.heads, job.head_dim};
    const Shape key{rows, 2 * job.kv_heads, job.head_dim};
    const auto rank = static_cast<uint64_t>(mesh.world().rank());
    q_ = random_tensor(backend, job.dtype, query, 3 * rank + 1);
    kv_ = random_tensor(backend, job.dtype, key, 3 * rank + 2);
    dout_ = random_tensor(backend, job.dtype, query, 3 * rank + 3);
    out_ = backend.allocate(job.dtype, query);
    lse_ = backend.allocate(DType::f32, {rows, job.heads});
    dq_ = backend.allocate(job.dtype, query);
    dkv_ = backend.allocate(job.dtype, key);
  }
  void forward() { attention_->forward(0, q_, kv_, out_, lse_); }
  void backward() { attention_->backward(0, q_, kv_, dout_, out_, lse_, dq_, dkv_); }

 private:
  SequenceLayout layout_;
  std::unique_ptr<Attention> attention_;
  Tensor q_, kv_, dout_, out_, lse_, dq_, dkv_;
};

double mean_over(Communicator& ranks, double value) {
  ranks.all_reduce(std::span(&value, 1));
  return value / ranks.size();
}

/// Seconds of the slowest rank, from a common start.
template <class Pass>
double time_once(Backend& backend, Communicator& world, const Pass& pass, Traffic& used) {
  world.barrier();
  const Traffic before = world.context().traffic;
  const auto start = std::chrono::steady_clock::now();
  pass();
  backend.synchronize();
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const Traffic& after = world.context().traffic;
  used.received_bytes = after.received_bytes - before.received_bytes;
  used.waited_seconds += after.waited_seconds - before.waited_seconds;
  all_reduce_largest(world, std::span(&seconds, 1));
  return seconds;
}

template <class Pass>
PassTiming time_pass(Backend& backend, Communicator& world, const Pass& pass, double seconds) {
  Traffic warm;
  const double once = time_once(backend, world, pass, warm);
  const int repetitions = static_cast<int>(std::clamp(seconds / std::max(once, 1e-6), 3.0, 200.0));
  Traffic used;
  std::vector<double> times;
  times.reserve(static_cast<size_t>(repetitions));
  for (int i = 0; i < repetitions; ++i) times.push_back(time_once(backend, world, pass, used));
  return {median(std::move(times)), mean_over(world, used.waited_seconds / repetitions),
          used.received_bytes};
}

}  // namespace

AttentionTiming time_attention(Backend& backend, Communicator& world, const AttentionJob& job,
                               LayoutKind layout, const MeshShape& shape,
                               const AttentionChoice& choice, double seconds) {
  Mesh mesh(world, shape);
  Work work(backend, mesh, job, layout, choice);
  const PassTiming forward = time_pass(
      backend, world, [&] { work.forward(); }, seconds / 2);
  const PassTiming backward = time_pass(
      backend, world, [&] { work.backward(); }, seconds / 2);
  return {forward, backward};
}

}  // namespace ringbolt
