// Turns a list of slices into work for attention kernels, and chooses who does it. Apart from the
// launches, so that the CPU tests prove that every query-key pair is computed exactly once.
//
// cuDNN is given two forms only: full rectangles, and causal squares on their diagonal. Every slice
// is a few of these; one with a left diagonal is many, as without_left_diagonals cuts it. Its known
// defects (NaN gradients where keys end half-way through a tile of 128, at one query, or at tiny
// lengths; a plan to compile for each length) are avoided here: lengths that are no multiples of
// 128 are padded to one of a few sizes with the true lengths given apart, tiny pieces go to our own
// kernels, empty ones vanish.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/backend/attention_slice.h"
#include "core/backend/backend.h"
#include "core/tensor/dtype.h"

namespace ringbolt::cuda {

enum class Direction { forward, backward };
enum class Engine { cudnn, own };

/// Alike pieces, `batch` of them: number b has queries [query_begin + b query_step, + queries),
/// keys likewise. Every row sees all keys, or, `causal`, row i of the square sees keys 0 to i.
struct AttentionPiece {
  int64_t query_begin = 0;
  int64_t queries = 0;
  int64_t key_begin = 0;
  int64_t keys = 0;
  bool causal = false;
  int64_t batch = 1;
  int64_t query_step = 0;
  int64_t key_step = 0;

  friend bool operator==(const AttentionPiece&, const AttentionPiece&) = default;
};

/// The pieces of each slice, in the order of the list; neighbours that are alike and disjoint join
/// into one batch.
std::vector<AttentionPiece> attention_pieces(SliceList slices);

struct AttentionTraits {
  DType dtype = DType::bf16;
  int64_t head_dim = 0;
  int arch = 0;         ///< 90 for compute capability 9.0
  bool aligned = true;  ///< addresses and row strides of all operands are multiples of 16 bytes
};

struct AttentionWork {
  AttentionPiece piece;
  Engine engine = Engine::own;
  /// The lengths that cuDNN's graph has. `padded`: operands are copied into zero-filled buffers of
  /// these lengths, and the graph is told the true ones.
  int64_t graph_queries = 0;
  int64_t graph_keys = 0;
  bool padded = false;
};

/// Keys that one call of fp8 attention sees on Hopper. Its tensor cores keep 14 bits of a sum of
/// fp8 products, and cut off the rest (DeepSeek-V3, arXiv 2412.19437, section 3.3.2), and cuDNN's
/// kernel sums all keys in them: by a model of it, of a million keys of like weight half of the sum
/// is lost, of so many 0.6 %. Calls are joined in f32.
constexpr int64_t kHopperE4m3Keys = 8192;

/// E4M3 is forward only. What cuDNN does not take of it is done by our kernels in bf16, which holds
/// its values exactly.
std::vector<AttentionWork> attention_work(SliceList slices, Direction direction,
                                          const AttentionTraits& traits);

/// Whether no query row occurs in two pieces: then results are final as they are written.
bool rows_are_disjoint(const std::vector<AttentionWork>& work);

/// Lengths of padded graphs: multiples of 128 with at most three leading binary digits, so that few
/// plans serve all.
int64_t padded_length(int64_t length);

/// Pieces into which our own forward kernel cuts the keys of few queries, so that they fill the
/// device.
int64_t key_chunks(const AttentionPiece& piece, int64_t heads, int64_t kv_heads,
                   int multiprocessors);
/// Rows (a query of a head each) of a block of our own kernels.
constexpr int kRowsOfBlock = 4;

/// cuDNN versions (91900 for 9.19.0) with known wrong results are refused; and before 9.18 a
/// workspace that is not zeroed can put NaNs into gradients.
bool cudnn_is_usable(int64_t version);
bool workspace_must_be_zeroed(int64_t version);
/// Why a device of compute capability `arch` has no fp8 attention with such an output, as an
/// error's text; "" where it has.
std::string why_no_e4m3_attention(int arch, E4m3Output output);

}  // namespace ringbolt::cuda
