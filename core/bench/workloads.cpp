#include "core/bench/workloads.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <map>
#include <memory>

#include "core/base/error.h"
#include "core/bench/random_data.h"
#include "core/train/training_step.h"

namespace ringbolt {
namespace {

/// Times `work` in alternation with the peak.
BenchResult measure(const std::string& name, DType dtype, double flops, const PeakMeasure& peak,
                    double seconds, const std::function<void()>& work) {
  std::vector<double> peaks;
  reset_resident_peak();
  const Timing timing =
      time_repeatedly(work, seconds, {.before = [&] { peaks.push_back(peak(dtype)); }});
  return {name, dtype, timing, flops, median(peaks), resident_peak_bytes()};
}

}  // namespace

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Timing time_repeatedly(const std::function<void()>& work, double seconds,
                       const Repetition& repetition) {
  using Clock = std::chrono::steady_clock;
  work();
  std::vector<double> taken;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (static_cast<int64_t>(taken.size()) < repetition.least || Clock::now() < end) {
    if (repetition.before) repetition.before();
    const auto start = Clock::now();
    work();
    taken.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  const auto [least, most] = std::minmax_element(taken.begin(), taken.end());
  return {median(taken), *least, *most, static_cast<int64_t>(taken.size())};
}

void reset_resident_peak() { std::ofstream("/proc/self/clear_refs") << 5; }

int64_t resident_peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string key; status >> key;) {
    int64_t kibibytes = 0;
    if (key == "VmHWM:" && status >> kibibytes) return kibibytes * 1024;
    std::getline(status, key);
  }
  return 0;
}

std::vector<MatmulCase> matmul_cases(const ModelConfig& config, int64_t tokens) {
  constexpr Transpose kNo = Transpose::no;
  constexpr Transpose kYes = Transpose::yes;
  const int64_t few = std::min<int64_t>(tokens, 1024);
  const int64_t in = config.hidden_size;
  const int64_t out = 2 * config.intermediate_size;  // gate and up are one product
  const auto named = [](const char* what, int64_t m, int64_t n, int64_t k, Transpose a,
                        Transpose b) {
    return MatmulCase{concat(what, " ", m, "x", n, "x", k), m, n, k, a, b};
  };
  return {{concat("square ", few), few, few, few, kNo, kNo},
          named("forward", tokens, out, in, kNo, kYes),
          named("input gradient", tokens, in, out, kNo, kNo),
          named("weight gradient", out, in, tokens, kYes, kNo),
          named("vocabulary", few, config.vocab_size, in, kNo, kYes)};
}

namespace {

/// A matrix product and its operands.
class MatmulRun {
 public:
  MatmulRun(Backend& backend, const MatmulCase& shape, DType dtype)
      : backend_(backend),
        shape_(shape),
        a_(operand(shape.transpose_a, shape.m, shape.k, dtype, 1)),
        b_(operand(shape.transpose_b, shape.k, shape.n, dtype, 2)),
        c_(backend.allocate(dtype, {shape.m, shape.n})) {}

  double flops() const {
    return 2.0 * static_cast<double>(shape_.m * shape_.n) * static_cast<double>(shape_.k);
  }
  void operator()() {
    backend_.matmul(a_, shape_.transpose_a, b_, shape_.transpose_b, c_);
    backend_.synchronize();
  }

 private:
  Tensor operand(Transpose transpose, int64_t rows, int64_t columns, DType dtype, uint64_t seed) {
    const Shape shape = transpose == Transpose::yes ? Shape{columns, rows} : Shape{rows, columns};
    return random_tensor(backend_, dtype, shape, seed);
  }

  Backend& backend_;
  MatmulCase shape_;
  Tensor a_;
  Tensor b_;
  Tensor c_;
};

}  // namespace

BenchResult bench_matmul(Backend& backend, const MatmulCase& shape, DType dtype, double seconds,
                         const PeakMeasure& peak) {
  MatmulRun run(backend, shape, dtype);
  return measure(shape.name, dtype, run.flops(), peak, seconds, [&] { run(); });
}

PeakMeasure matmul_peak(Backend& backend) {
  const auto runs = std::make_shared<std::map<DType, MatmulRun>>();
  return [&backend, runs](DType dtype) {
    const auto rate = [](MatmulRun& run, double seconds) {
      return run.flops() / time_repeatedly(std::ref(run), seconds).median_seconds;
    };
    if (const auto run = runs->find(dtype); run != runs->end())
      return rate(run->second, kPeakSeconds);
    const int64_t largest = dtype == DType::bf16 ? 8192 : 4096;
    for (int64_t n = 256;; n *= 2) {
      const MatmulCase square{"peak", n, n, n, Transpose::no, Transpose::yes};
      MatmulRun run(backend, square, dtype);
      const double reached = rate(run, 0);
      if (n < largest && run.flops() / reached < kPeakSeconds) continue;
      runs->try_emplace(dtype, std::move(run));
      return reached;
    }
  };
}

namespace {

/// Causal attention of one sequence: its operands as a layer has them, and what the forward writes.
struct AttentionRun {
  AttentionRun(Backend& b, const AttentionCase& shape, DType dtype)
      : backend(b),
        q(random_tensor(b, dtype, {shape.tokens, shape.heads, shape.head_dim}, 1)),
        kv(random_tensor(b, dtype, {shape.tokens, 2 * shape.kv_heads, shape.head_dim}, 2)),
        out(b.allocate(dtype, q.shape())),
        lse(b.allocate(DType::f32, {shape.tokens, shape.heads})),
        slices(causal_slices(std::vector<int64_t>{0, shape.tokens})),
        scale(attention_scale(shape.head_dim)),
        pairs(static_cast<double>(attention_pairs(slices)) *
              static_cast<double>(shape.heads * shape.head_dim)),
        name(concat(shape.tokens, " tokens, ", shape.heads, ":", shape.kv_heads, " heads of ",
                    shape.head_dim)) {}

  BenchResult forward(AttentionDType computed_in, double seconds, const PeakMeasure& peak) {
    AttentionOperands operands(backend, computed_in, kv);
    const AttentionOperands::Queries queries = operands.queries(q);
    Tensor storage;
    const ConstView block = operands.block(kv, storage);
    return measure("forward, " + name, q.dtype(), 4 * pairs, peak, seconds, [&] {
      backend.begin_attention(out, lse);
      operands.attend(slices, queries, block, scale, out, lse);
      backend.synchronize();
    });
  }

  Backend& backend;
  Tensor q;    ///< (S, H, D)
  Tensor kv;   ///< (S, 2K, D)
  Tensor out;  ///< (S, H, D)
  Tensor lse;  ///< (S, H) f32
  std::vector<AttentionSlice> slices;
  float scale;
  double pairs;  ///< visible, times H D
  std::string name;
};

}  // namespace

BenchResult bench_attention_forward(Backend& backend, const AttentionCase& shape, DType dtype,
                                    double seconds, const PeakMeasure& peak) {
  return AttentionRun(backend, shape, dtype).forward(shape.computed_in, seconds, peak);
}

std::vector<BenchResult> bench_attention(Backend& backend, const AttentionCase& shape, DType dtype,
                                         double seconds, const PeakMeasure& peak) {
  AttentionRun run(backend, shape, dtype);
  const Tensor dout = random_tensor(backend, dtype, run.q.shape(), 4);
  Tensor delta = backend.allocate(DType::f32, run.lse.shape());
  Tensor dq = backend.allocate(DType::f32, run.q.shape());
  Tensor dkv = backend.allocate(DType::f32, run.kv.shape());
  const int64_t kv_heads = shape.kv_heads;
  const ConstView k = run.kv.view().slice_columns(0, kv_heads);
  const ConstView v = run.kv.view().slice_columns(kv_heads, 2 * kv_heads);
  const View dk = dkv.view().slice_columns(0, kv_heads);
  const View dv = dkv.view().slice_columns(kv_heads, 2 * kv_heads);
  const BenchResult forward = run.forward(AttentionDType::model, seconds, peak);
  const auto backward = [&] {
    backend.fill_zero(dq);
    backend.fill_zero(dkv);
    backend.attention_delta(dout, run.out, delta);
    backend.attention_backward(run.slices, run.q, k, v, dout, run.lse, delta, run.scale, dq, dk,
                               dv);
    backend.synchronize();
  };
  return {forward,
          measure("backward, " + run.name, dtype, 10 * run.pairs, peak, seconds, backward)};
}

TrainingFlops training_flops(const ModelConfig& c, int64_t sequences, int64_t context_length) {
  const double layer =
      static_cast<double>(c.hidden_size) *
      static_cast<double>(2 * c.query_width() + 2 * c.key_value_width() + 3 * c.intermediate_size);
  const double matrices = static_cast<double>(c.num_hidden_layers) * layer +
                          static_cast<double>(c.vocab_size) * static_cast<double>(c.hidden_size);
  const auto length = static_cast<double>(context_length);
  const double dense = 6 * matrices * length * static_cast<double>(sequences);
  const double pair = 12 * static_cast<double>(c.query_width() * c.num_hidden_layers * sequences);
  return {dense + pair * length * (length + 1) / 2, dense + pair * length * length};
}

StepBench bench_training_step(Backend& backend, const StepCase& step, DType dtype, double seconds,
                              const PeakMeasure& peak, const RotaryTables& rotary) {
  static_cast<void>(peak(dtype));
  const int64_t of_peak = backend.memory().live_bytes;  // what it keeps is no part of the step
  ResidentParameters parameters(backend, step.config, dtype, StorePurpose::training);
  fill_random_weights(backend, parameters);
  Transformer model(backend, parameters);
  TrainingRecipe recipe;
  recipe.context_length = step.context_length;
  recipe.batch_size = step.batch_size;
  recipe.recompute = step.recompute;
  WholePlacement placement(backend);
  const int64_t stream = 64 * step.batch_size * step.context_length + 1;
  TrainingStep training(model, parameters, placement, recipe,
                        TrainingData(SequenceOrder(stream, step.context_length, 1),
                                     random_tokens(step.config.vocab_size)),
                        rotary);
  backend.reset_peak_memory();
  int64_t number = 0;
  if (step.recorded) {
    model.record_micro_batches();
    training.run(++number);  // as it is; the warm-up records
  }
  const TrainingFlops flops = training_flops(step.config, step.batch_size, step.context_length);
  const std::string name = concat("training step, ", step.batch_size, " x ", step.context_length,
                                  " tokens", step.recorded ? ", CUDA graph" : "");
  const BenchResult result =
      measure(name, dtype, flops.causal, peak, seconds, [&] { training.run(++number); });
  return {result, flops,
          static_cast<double>(recipe.tokens_per_step()) / result.timing.median_seconds,
          backend.memory().peak_bytes - of_peak};
}

}  // namespace ringbolt
