#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "core/cpu/allocator.h"
#include "core/cpu/attention.h"
#include "core/cpu/attention_work.h"
#include "core/cpu/parallel_for.h"
#include "core/cpu/progress.h"

namespace ringbolt::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// How the forward work of one shape is cut: (key/value head, group of its query heads, block of
/// rows, chunk of keys).
struct ForwardPlan {
  int64_t heads;        // query heads of a piece
  int64_t head_groups;  // groups for each key/value head
  int64_t rows;         // rows of a piece
  int64_t row_blocks;
  int64_t chunks;  // of keys, more than 1 where there are few queries (decoding)
  int64_t chunk_keys;

  ForwardPlan(int64_t t, int64_t h, int64_t k, int64_t tk, int64_t columns) {
    const int64_t group = h / k;
    heads = std::min(group, columns);
    head_groups = (group + heads - 1) / heads;
    rows = std::max<int64_t>(1, std::min(t, columns / heads));
    row_blocks = (t + rows - 1) / rows;
    constexpr int64_t kEnoughPieces = 16;
    constexpr int64_t kSmallestChunk = 512;
    constexpr int64_t kMostColumns = 64;  // bounds the partial results
    const int64_t pieces = k * head_groups * row_blocks;
    chunks = 1;
    if (rows * heads <= kMostColumns && pieces < kEnoughPieces) {
      chunks = std::clamp<int64_t>(tk / kSmallestChunk, 1, (kEnoughPieces + pieces - 1) / pieces);
    }
    chunk_keys = (tk + chunks - 1) / chunks;
  }
};

/// Combines a running (out, lse) with partial results over disjoint keys, in order. All of one row
/// and head.
template <class Out>
void merge_partials(int64_t d, int64_t n, const float* partial_out, int64_t out_step,
                    const float* partial_lse, int64_t lse_step, Out* out, float* lse) {
  float most = *lse;
  for (int64_t i = 0; i < n; ++i) most = std::max(most, partial_lse[i * lse_step]);
  if (most == kMinusInfinity) return;
  std::array<float, 256> sum;
  float total = std::exp(*lse - most);
  const bool running = *lse != kMinusInfinity;
  for (int64_t j = 0; j < d; ++j)
    sum[static_cast<size_t>(j)] = running ? total * to_float(out[j]) : 0;
  for (int64_t i = 0; i < n; ++i) {
    const float weight = std::exp(partial_lse[i * lse_step] - most);
    if (weight == 0) continue;
    total += weight;
    const float* part = partial_out + i * out_step;
    for (int64_t j = 0; j < d; ++j) sum[static_cast<size_t>(j)] += weight * part[j];
  }
  for (int64_t j = 0; j < d; ++j) out[j] = from_float<Out>(sum[static_cast<size_t>(j)] / total);
  *lse = most + std::log(total);
}

}  // namespace

void attention_forward(SliceList slices, ConstView q, ConstView k, ConstView v, float scale,
                       View out, View lse, Isa isa, Progress* progress, const CodeScales& codes) {
  check_attention(slices, q, k, v, scale);
  require_attention(out.shape() == q.shape() && lse.shape() == Shape({q.dim(0), q.dim(1)}),
                    "out and lse must have q's rows and heads");
  if (slices.empty() || q.empty() || k.empty()) return;
  const AttentionKernels& kernels = attention_kernels_of(q.dtype(), isa);
  const int64_t d = q.dim(2);
  const int64_t group = q.dim(1) / k.dim(1);
  const ForwardPlan plan(q.dim(0), q.dim(1), k.dim(1), k.dim(0), kernels.forward_columns);
  const SlicesByBlock by_rows(slices, SlicesByBlock::Side::queries, q.dim(0), plan.rows);
  const int64_t scratch_bytes = kernels.forward_scratch_bytes(static_cast<int>(d));

  // Partial results (chunk, T, H, D) and (chunk, T, H) where keys are cut.
  const int64_t elements = plan.chunks > 1 ? q.elements() : 0;
  std::vector<float> partial_out(static_cast<size_t>(plan.chunks * elements), 0.0F);
  std::vector<float> partial_lse(static_cast<size_t>(plan.chunks * elements / d), kMinusInfinity);

  const int64_t pieces = k.dim(1) * plan.head_groups * plan.row_blocks * plan.chunks;
  parallel_for_dynamic(pieces, [&](int64_t i) {
    // The last rows first: causal rows cost the more the later they are.
    const int64_t chunk = i % plan.chunks;
    const int64_t head_piece = i / plan.chunks % (k.dim(1) * plan.head_groups);
    const int64_t block = plan.row_blocks - 1 - i / plan.chunks / (k.dim(1) * plan.head_groups);
    const int64_t kv_head = head_piece / plan.head_groups;
    const int64_t first_of_group = head_piece % plan.head_groups * plan.heads;
    const int64_t head = kv_head * group + first_of_group;
    const std::span<const KernelSlice> mine = by_rows[block];
    if (mine.empty()) return;
    ForwardPiece piece{};
    piece.q = head_of(q, head);
    piece.k = head_of(k, kv_head);
    piece.v = head_of(v, kv_head);
    piece.out = head_of(out, head);
    piece.out_stride = out.row_stride();
    piece.out_is_bf16 = out.dtype() == DType::bf16;
    piece.lse = lse.data<float>() + head;
    piece.lse_stride = lse.row_stride();
    if (plan.chunks > 1) {
      piece.out = partial_out.data() + chunk * elements + head * d;
      piece.out_stride = q.dim(1) * d;
      piece.out_is_bf16 = false;
      piece.lse = partial_lse.data() + chunk * (elements / d) + head;
      piece.lse_stride = q.dim(1);
    }
    piece.q_stride = q.row_stride();
    piece.k_stride = k.row_stride();
    piece.v_stride = v.row_stride();
    piece.row_begin = block * plan.rows;
    piece.rows = static_cast<int>(std::min(plan.rows, q.dim(0) - piece.row_begin));
    piece.heads = static_cast<int>(std::min(plan.heads, group - first_of_group));
    piece.head_dim = static_cast<int>(d);
    piece.scale = scale * codes.logits;
    piece.value_scale = codes.values;
    piece.slices = mine.data();
    piece.n_slices = static_cast<int64_t>(mine.size());
    piece.key_begin = chunk * plan.chunk_keys;
    piece.key_end = std::min(k.dim(0), piece.key_begin + plan.chunk_keys);
    if (progress != nullptr) {
      piece.poll = [](void* with) { static_cast<Progress*>(with)->poll(); };
      piece.poll_with = progress;
    }
    piece.scratch = thread_scratch(scratch_bytes);
    kernels.forward(piece);
  });
  if (progress != nullptr) progress->finish();
  if (plan.chunks == 1) return;
  for (int64_t t = 0; t < q.dim(0); ++t) {
    for (int64_t h = 0; h < q.dim(1); ++h) {
      const int64_t at = t * q.dim(1) + h;
      const auto merge = [&]<class Out>(Out* row) {
        merge_partials(d, plan.chunks, partial_out.data() + at * d, elements,
                       partial_lse.data() + at, elements / d, row, lse.row<float>(t) + h);
      };
      if (out.dtype() == DType::bf16) {
        merge(out.row<bf16>(t) + h * d);
      } else {
        merge(out.row<float>(t) + h * d);
      }
    }
  }
}

}  // namespace ringbolt::cpu
