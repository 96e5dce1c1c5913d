#include "parallel/step_memory.h"

#include <algorithm>
#include <utility>

#include "core/cpu/packed_product.h"
#include "core/cuda/attention_plan.h"
#include "core/model/head.h"
#include "core/model/rope_scaling.h"
#include "parallel/device_communicator.h"

namespace ringbolt {
namespace {

using enum MemoryKind;

constexpr int64_t kF32 = 4;

}  // namespace

int64_t StepMemory::rows() const { return t_ * m_.num_attention_heads * kF32; }

// --- attention -----------------------------------------------------------------------------------

int64_t StepMemory::inner() const {
  return c_.attention.strategy == AttentionStrategy::double_ring ? c_.mesh.inner : c_.mesh.ring();
}

int64_t StepMemory::outer() const {
  return c_.attention.strategy == AttentionStrategy::double_ring ? c_.mesh.outer : 1;
}

int64_t StepMemory::ring_blocks(int64_t block) const {
  const int64_t rings = (inner() > 1 ? 1 : 0) + (outer() > 1 ? 1 : 0);
  return 2 * rings * block;
}

int64_t StepMemory::ring_sums(int64_t sum) const {
  const int64_t rings = (inner() > 1 ? 1 : 0) + (outer() > 1 ? 1 : 0);
  return 3 * rings * sum;
}

bool StepMemory::gathers() const {
  return c_.attention.strategy == AttentionStrategy::all_gather && ring() > 1;
}

/// kv of the heads that a head rank has, for all rows of its ring position; more where key/value
/// heads are replicated.
int64_t StepMemory::traded_keys() const {
  const int64_t heads = std::max<int64_t>(1, m_.num_key_value_heads / c_.mesh.head);
  return t_ * c_.mesh.head * 2 * heads * m_.head_dim * a_;
}

/// core/model/attention_operands.cpp: q and kv in the attention's type where it is not the model's.
/// The block of `keys` bytes in that type.
int64_t StepMemory::converted(int64_t keys, std::vector<Hold>& holds) {
  const AttentionDType dtype = c_.attention.dtype;
  const int64_t kv_heads = std::max<int64_t>(1, m_.num_key_value_heads / c_.mesh.head);
  const int64_t width = 2 * kv_heads * m_.head_dim;
  const int64_t block =
      key_block_bytes(dtype, c_.dtype, {keys / a_ / width, 2 * kv_heads, m_.head_dim});
  const bool same = !is_fp8(dtype) && block == keys;
  if (same) return keys;
  const int64_t query_elements = queries() / a_;
  const int64_t element = is_fp8(dtype) ? 1 : block / (keys / a_);
  holds.push_back(
      ledger_.hold(attention, query_elements * element + block + (is_fp8(dtype) ? kF32 : 0)));
  return block;
}

void StepMemory::attention_forward(Result result) {
  const int64_t output = result == Result::f32 ? queries() / a_ * kF32 : queries();
  std::vector<Hold> exchanged;
  if (c_.mesh.head > 1)
    exchanged.push_back(ledger_.hold(attention, queries() + output + traded_keys() + rows()));
  if (gathers()) {
    const Hold all = ledger_.hold(attention, c_.mesh.ring() * traded_keys());
    converted(c_.mesh.ring() * traded_keys(), exchanged);
    library_forward();
    return;
  }
  const bool sums = narrow() && result == Result::rounded && ring() > 1;
  const Hold running = ledger_.hold(attention, sums ? queries() / a_ * kF32 : 0);
  const int64_t block = converted(traded_keys(), exchanged);
  const Hold blocks = ledger_.hold(attention, ring_blocks(block));
  library_forward();
}

/// core/model/two_part_attention.cpp: far and near parts, each with its own rotation of q and k,
/// and its own f32 output.
void StepMemory::two_part_forward() {
  const int64_t output = queries() / a_ * kF32;
  const Hold far = ledger_.hold(attention, output + rows());
  {
    const Hold rotated = ledger_.hold(attention, queries() + keys());
    attention_forward(Result::f32);
  }
  const Hold rotated = ledger_.hold(attention, queries() + keys());
  const Hold near = ledger_.hold(attention, output);
  attention_forward(Result::f32);
}

void StepMemory::attention_backward() {
  const Hold delta = ledger_.hold(attention, rows());
  const int64_t query_sum = queries() / a_ * kF32;
  const int64_t key_sum = traded_keys() / a_ * kF32;
  std::vector<Hold> exchanged;
  if (c_.mesh.head > 1) {
    exchanged.push_back(
        ledger_.hold(attention, 3 * queries() + traded_keys() + 2 * rows() + key_sum));
  }
  const bool own_key_sum = narrow() && c_.mesh.head == 1;
  const Hold sums =
      ledger_.hold(attention, (narrow() ? query_sum : 0) + (own_key_sum ? key_sum : 0));
  if (gathers()) {
    const Hold all = ledger_.hold(attention, c_.mesh.ring() * (traded_keys() + key_sum));
    library_backward();
    const int64_t elements = c_.mesh.ring() * key_sum / kF32;
    const Hold terms =
        ledger_.hold(workspace, c_.gpu ? device_reduction_bytes(c_.mesh.ring(), elements) : 0);
    return;
  }
  const bool queries_travel = c_.attention.backward == RingBackward::queries;
  // q, dout, lse and delta behind one another; a ring of one packs them, too.
  const int64_t query_block = 2 * queries() + 2 * rows();
  const bool distributed = c_.mesh.world() > 1;
  const Hold packed = ledger_.hold(attention, queries_travel && distributed ? query_block : 0);
  const Hold blocks =
      ledger_.hold(attention, ring_blocks(queries_travel ? query_block : traded_keys()));
  const Hold travelling = ledger_.hold(attention, ring_sums(queries_travel ? query_sum : key_sum));
  library_backward();
}

// --- a block -------------------------------------------------------------------------------------

/// A piece of tokens at a time.
void StepMemory::project() {
  const int64_t piece = std::min(t_, piece_tokens_);
  const Hold normed = ledger_.hold(activations, hidden(piece) + piece * kF32);
  product(piece, m_.hidden_size, m_.query_width());
  product(piece, m_.hidden_size, 2 * m_.key_value_width());
}

StepMemory::Kept StepMemory::forward_layer() {
  Kept kept;
  kept.push_back(ledger_.hold(activations, hidden(t_)));
  Hold projected = ledger_.hold(activations, queries() + keys());
  project();
  Hold result = ledger_.hold(activations, queries() + rows());
  attention_forward();
  if (c_.recompute == Recompute::none) {
    kept.push_back(std::move(projected));
    kept.push_back(std::move(result));
    kept.push_back(ledger_.hold(activations, hidden(t_)));
    kept.push_back(ledger_.hold(activations, products(t_)));
  } else {
    projected.release();
    if (c_.recompute == Recompute::block) result.release();
    kept.push_back(std::move(result));
  }
  feed_forward();
  return kept;
}

/// One piece of tokens: the norm, the products unless they are kept, SwiGLU's result; in backward
/// a norm's sums besides.
void StepMemory::feed_forward(bool backward) {
  const int64_t piece = std::min(t_, piece_tokens_);
  const int64_t e = m_.hidden_size;
  const int64_t f = m_.intermediate_size;
  const Hold normed = ledger_.hold(activations, hidden(piece) + piece * kF32);
  const Hold own = ledger_.hold(activations, c_.recompute == Recompute::none ? 0 : products(piece));
  product(piece, e, 2 * f);
  const Hold hidden_units = ledger_.hold(activations, products(piece) / 2);
  product(piece, f, e);
  if (!backward) return;
  product(e, piece, f);
  product(piece, e, f);
  product(2 * f, piece, e);
  product(piece, 2 * f, e);
  norm_partials();
}

void StepMemory::backward_layer(Kept kept) {
  Kept restored;
  if (c_.recompute != Recompute::none) {
    kept.push_back(ledger_.hold(activations, hidden(t_)));
    restored.push_back(ledger_.hold(activations, queries() + keys()));
    project();
  }
  if (c_.recompute == Recompute::block) {
    restored.push_back(ledger_.hold(activations, queries() + rows()));
    attention_forward();
  }
  feed_forward(true);
  kept.pop_back();  // the middle, or the products and the middle, are spent
  if (c_.recompute == Recompute::none) kept.pop_back();
  Hold dattention = ledger_.hold(activations, queries());
  const Hold gradients_of_heads = ledger_.hold(activations, queries() + keys());
  attention_backward();
  dattention.release();
  const Hold normed = ledger_.hold(activations, hidden(t_) + t_ * kF32);
  norm_partials();
}

void StepMemory::forward_only() {
  {
    Hold projected = ledger_.hold(activations, queries() + keys());
    project();
    const Hold result = ledger_.hold(activations, queries() + rows());
    if (is_two_part(m_.rope_scaling.method)) {
      two_part_forward();
    } else {
      attention_forward();
    }
    projected.release();
    product(t_, m_.query_width(), m_.hidden_size);
  }
  feed_forward();
}

void StepMemory::head() {
  const Hold normed = ledger_.hold(activations, 2 * hidden(t_) + t_ * kF32);
  const int64_t chunk = std::min(t_, head_chunk_tokens(m_.vocab_size));
  const Hold chunk_logits =
      ledger_.hold(logits, chunk * m_.vocab_size * (kF32 + (narrow() ? a_ : 0)));
  product(chunk, m_.hidden_size, m_.vocab_size);
  product(m_.vocab_size, chunk, m_.hidden_size);
  product(chunk, m_.vocab_size, m_.hidden_size);
}

void StepMemory::head_forward_only() {
  const Hold losses = ledger_.hold(activations, 2 * t_ * kF32);
  const int64_t chunk = std::min({t_, head_chunk_tokens(m_.vocab_size), piece_tokens_});
  const Hold chunk_logits = ledger_.hold(logits, chunk * m_.vocab_size * kF32);
  const Hold normed = ledger_.hold(activations, hidden(chunk) + chunk * kF32);
  product(chunk, m_.hidden_size, m_.vocab_size);
}

/// What the CPU packs of the operands of a product (rows, depth) x (depth, columns)
/// (core/cpu/packed_product.h).
void StepMemory::product(int64_t rows, int64_t depth, int64_t columns) {
  const Hold packed = ledger_.hold(
      workspace, c_.gpu ? 0 : cpu::packed_product_bytes(rows, depth, columns, c_.dtype));
}

// --- libraries, on a GPU -------------------------------------------------------------------------

/// Log-sum-exps as cuDNN writes them; where results are joined, its block, too.
void StepMemory::library_forward() {
  // On a CPU a rounded output and its log-sum-exps are joined to the others
  // (core/cpu/quantize.cpp).
  const bool apart = !c_.gpu && c_.attention.dtype == AttentionDType::fp8_output;
  const Hold part = ledger_.hold(attention, apart ? queries() / a_ * kF32 + rows() : 0);
  if (c_.gpu && is_fp8(c_.attention.dtype)) {  // its block is always apart, in E4M3 or bf16
    const int64_t element = c_.attention.dtype == AttentionDType::fp8_output ? 1 : 2;
    // Many keys are several calls of fewer rows, joined in f32 (core/cuda/attention_plan.h).
    const bool joined = ring() == 1 && narrow() && t_ > cuda::kHopperE4m3Keys;
    const Hold sum = ledger_.hold(workspace, joined ? queries() / a_ * kF32 : 0);
    const Hold block = ledger_.hold(workspace, rows() + queries() / a_ * element);
    return;
  }
  const bool in_bf16 = c_.attention.dtype == AttentionDType::bf16 && !narrow();
  if (!cudnn() && !(c_.gpu && in_bf16)) return;
  const Hold block =
      ledger_.hold(workspace, rows() + (ring() > 1 || in_bf16 ? queries() / a_ * 2 : 0));
}

/// core/cuda/attention.cpp: log-sum-exps, an output, dq, dk and dv in bf16; and cuDNN's: dq in
/// f32, a number a row, and with grouped heads dk and dv of every query head.
void StepMemory::library_backward() {
  if (!cudnn()) return;
  const int64_t shared = m_.num_key_value_heads < m_.num_attention_heads ? 2 * queries() : 0;
  const Hold block = ledger_.hold(workspace, rows() + 2 * queries() + keys());
  const Hold library = ledger_.hold(workspace, queries() / a_ * kF32 + rows() + shared);
}

/// Sums of dweight over pieces of rows (core/cuda/norm.cu).
void StepMemory::norm_partials() {
  if (!c_.gpu) return;
  const Hold partial = ledger_.hold(workspace, std::min<int64_t>(t_, 512) * m_.hidden_size * kF32);
}

}  // namespace ringbolt
