#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <span>
#include <thread>

#include "core/cpu/allocator.h"
#include "core/cpu/attention.h"
#include "core/cpu/attention_work.h"
#include "core/cpu/parallel_for.h"
#include "core/cpu/progress.h"

namespace ringbolt::cpu {
namespace {

/// Lets blocks of keys of one head add to dq in order: block j adds to a tile of rows after all
/// blocks before it.
class TileOrder {
 public:
  TileOrder(int64_t heads, int64_t blocks)
      : blocks_(blocks),
        done_(std::make_unique<std::atomic<int64_t>[]>(static_cast<size_t>(heads * blocks))) {}

  /// Block `block` of `head` will not touch tiles before `tile` any more.
  void publish(int64_t head, int64_t block, int64_t tile) {
    at(head, block).store(tile, std::memory_order_release);
  }

  /// Waits until the blocks before `block` have passed `tile`. `first` is where the caller starts
  /// to look: 0 at first, moved past blocks that are done.
  void wait(int64_t head, int64_t block, int64_t tile, int64_t& first) {
    for (int64_t b = first; b < block; ++b) {
      int64_t reached = at(head, b).load(std::memory_order_acquire);
      for (int spins = 0; reached <= tile; ++spins) {
        if (spins > 64) std::this_thread::yield();
        reached = at(head, b).load(std::memory_order_acquire);
      }
      if (b == first && reached == kDone) ++first;
    }
  }

  static constexpr int64_t kDone = std::numeric_limits<int64_t>::max();

 private:
  std::atomic<int64_t>& at(int64_t head, int64_t block) {
    return done_[static_cast<size_t>(head * blocks_ + block)];
  }

  int64_t blocks_;
  std::unique_ptr<std::atomic<int64_t>[]> done_;
};

/// The end of the keys that a block's slices use, at most `end`. What lies behind is not read:
/// padding may hold anything.
int64_t keys_used(std::span<const KernelSlice> slices, int64_t end) {
  int64_t used = 0;
  for (const KernelSlice& s : slices) used = std::max(used, s.key_end);
  return std::min(used, end);
}

/// One block of keys over all tiles of rows that its slices touch.
void backward_block(const AttentionKernels& kernels, const BackwardPiece& piece,
                    std::span<const KernelSlice> slices, int64_t group, TileOrder& order,
                    int64_t head, int64_t block, Progress* progress) {
  int64_t begin = std::numeric_limits<int64_t>::max();
  int64_t end = 0;
  for (const KernelSlice& s : slices) {
    // The first row that sees the first key which the block and the slice share.
    const int64_t sees = std::max(s.key_begin, piece.key_begin) + 1 - s.shift;
    begin = std::min(begin, std::max(s.query_begin, sees));
    // The last row that still sees the last key which they share.
    const int64_t last = std::min(s.key_end, piece.key_begin + piece.keys);
    end = std::max(end, std::min(s.query_end, last - s.left));
  }
  const int64_t rows = kernels.backward_rows;
  int64_t first = 0;
  kernels.backward_begin(piece);
  for (int64_t tile = begin / rows; tile * rows < end; ++tile) {
    order.publish(head, block, tile);
    order.wait(head, block, tile, first);
    if (progress != nullptr) progress->poll();
    const int64_t row = tile * rows;
    for (const KernelSlice& s : slices) {
      if (s.query_begin >= row + rows || s.query_end <= row) continue;
      for (int64_t g = 0; g < group; ++g) {
        kernels.backward_tile(piece, static_cast<int>(g), row, static_cast<int>(rows), s);
      }
    }
  }
  kernels.backward_end(piece);
}

}  // namespace

void attention_backward(SliceList slices, ConstView q, ConstView k, ConstView v, ConstView dout,
                        ConstView lse, ConstView delta, float scale, View dq, View dk, View dv,
                        Isa isa, Progress* progress) {
  check_attention(slices, q, k, v, scale);
  require_attention(q.dtype() != DType::e4m3, "E4M3 has no backward");
  const Shape rows_and_heads{q.dim(0), q.dim(1)};
  require_attention(dout.shape() == q.shape() && dout.dtype() == q.dtype(), "dout must be like q");
  require_attention(lse.shape() == rows_and_heads && delta.shape() == rows_and_heads,
                    "lse and delta must be (T, H)");
  require_attention(dq.shape() == q.shape() && dk.shape() == k.shape() && dv.shape() == k.shape(),
                    "gradients must be like inputs");
  require_attention(
      dq.dtype() == DType::f32 && dk.dtype() == DType::f32 && dv.dtype() == DType::f32,
      "gradients must be f32");
  if (slices.empty() || q.empty() || k.empty()) return;
  const AttentionKernels& kernels = attention_kernels_of(q.dtype(), isa);
  const int64_t kv_heads = k.dim(1);
  const int64_t group = q.dim(1) / kv_heads;
  const int64_t block_keys = kernels.backward_keys(static_cast<int>(q.dim(2)));
  const SlicesByBlock by_keys(slices, SlicesByBlock::Side::keys, k.dim(0), block_keys);
  const int64_t scratch_bytes = kernels.backward_scratch_bytes(static_cast<int>(q.dim(2)));
  TileOrder order(kv_heads, by_keys.blocks());

  // Pieces are taken in order, so those that a piece waits for have begun. Heads change fastest:
  // neighbours do not wait.
  std::atomic<int64_t> next{0};
  const int64_t pieces = kv_heads * by_keys.blocks();
  parallel_for(std::min<int64_t>(max_threads(), pieces), [&](int64_t) {
    for (int64_t i = next++; i < pieces; i = next++) {
      const int64_t head = i % kv_heads;
      const int64_t block = i / kv_heads;
      if (const std::span<const KernelSlice> mine = by_keys[block]; !mine.empty()) {
        BackwardPiece piece{};
        piece.q = head_of(q, head * group);
        piece.dout = head_of(dout, head * group);
        piece.k = head_of(k, head);
        piece.v = head_of(v, head);
        piece.lse = lse.data<float>() + head * group;
        piece.delta = delta.data<float>() + head * group;
        piece.dq = dq.data<float>() + head * group * q.dim(2);
        piece.dk = dk.data<float>() + head * q.dim(2);
        piece.dv = dv.data<float>() + head * q.dim(2);
        piece.q_stride = q.row_stride();
        piece.dout_stride = dout.row_stride();
        piece.k_stride = k.row_stride();
        piece.v_stride = v.row_stride();
        piece.lse_stride = lse.row_stride();
        piece.delta_stride = delta.row_stride();
        piece.dq_stride = dq.row_stride();
        piece.dk_stride = dk.row_stride();
        piece.dv_stride = dv.row_stride();
        piece.key_begin = block * block_keys;
        piece.keys =
            static_cast<int>(keys_used(mine, piece.key_begin + block_keys) - piece.key_begin);
        piece.head_dim = static_cast<int>(q.dim(2));
        piece.scale = scale;
        piece.scratch = thread_scratch(scratch_bytes);
        backward_block(kernels, piece, mine, group, order, head, block, progress);
      }
      order.publish(head, block, TileOrder::kDone);
    }
  });
  if (progress != nullptr) progress->finish();
}

}  // namespace ringbolt::cpu
