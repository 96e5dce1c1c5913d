// Attention by cuDNN, through cudnn-frontend, which only cudnn.cpp includes.
//
// A graph is one of the two forms of core/cuda/attention_plan.h, forward or backward. Types are
// bf16 throughout, or, forward, E4M3 with scales in device memory. FLOAT outputs are accepted on
// Hopper, but the same machine code then writes bf16. Log-sum-exps are f32 (batch, H, queries),
// packed, natural logarithms. Operands may have strided rows; what backward writes, and the output
// it reads, are packed. Each graph's plan is compiled at its first use, for the key below, and
// kept.
#pragma once

#include <compare>
#include <memory>
#include <string>

#include "core/cuda/attention_plan.h"
#include "core/cuda/memory.h"

namespace ringbolt::cuda {

/// Elements from row to row and from one sequence of the batch to the next.
struct RowStrides {
  int64_t row = 0;
  int64_t batch = 0;
  friend auto operator<=>(const RowStrides&, const RowStrides&) = default;
};

/// All that a plan depends on, but the device and the library's version, which do not change within
/// a process.
struct AttentionGraph {
  Direction direction = Direction::forward;
  DType dtype = DType::bf16;      ///< of q, k and v: bf16, or, forward, e4m3
  DType out_dtype = DType::bf16;  ///< forward: bf16, or, of e4m3, that
  int64_t batch = 1;
  int64_t queries = 0;
  int64_t keys = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  bool causal = false;  ///< queries == keys
  bool padded = false;  ///< true lengths are given in device memory
  float scale = 1;
  RowStrides q, k, v;
  RowStrides out;   ///< forward: of the output
  RowStrides dout;  ///< backward
  friend auto operator<=>(const AttentionGraph&, const AttentionGraph&) = default;
};

/// The numbers that cuDNN multiplies by in E4M3 attention, each a float aligned to 16 bytes.
enum class Fp8Scale { descale_q, descale_k, descale_v, descale_weights, scale_weights, scale_out };
inline constexpr int kFp8Scales = 6;
inline constexpr int kFp8ScaleStep = 4;        ///< floats from one to the next
inline constexpr float kFp8WeightScale = 256;  ///< weights are at most 1

/// Device memory of the operands. What a direction does not have is null.
struct AttentionMemory {
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  void* out = nullptr;     ///< forward: written; backward: read, packed (batch, queries, H, D)
  float* stats = nullptr;  ///< (batch, H, queries): written forward, read backward
  const void* dout = nullptr;
  void* dq = nullptr;  ///< packed (batch, queries, H, D)
  void* dk = nullptr;  ///< packed (batch, keys, K, D)
  void* dv = nullptr;
  const float* scales = nullptr;  ///< e4m3: see Fp8Scale
  float* largest = nullptr;  ///< e4m3: (8), of weights and of the output, which cuDNN wants to say
  const int32_t* lengths = nullptr;  ///< padded: (2 batch), of the queries, then of the keys
};

class CudnnAttention {
 public:
  /// Throws: DeviceError where the library is too old, or of a version with known wrong results.
  CudnnAttention(cudaStream_t stream, Memory& memory, int arch);
  CudnnAttention(const CudnnAttention&) = delete;
  CudnnAttention& operator=(const CudnnAttention&) = delete;
  ~CudnnAttention();

  /// Stream: asynchronous on the constructor's. Throws: DeviceError where no plan can be made.
  void run(const AttentionGraph& graph, const AttentionMemory& memory);
  /// "cuDNN 9.19.0"
  static std::string library();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// --- without a device ----------------------------------------------------------------------------

/// A device that need not be there: its compute capability (90) and cuDNN's own JSON description.
struct DeviceDescription {
  int arch;
  std::string json;
};

struct GraphReport {
  enum class Ending {
    built,       ///< the plan was made
    no_driver,   ///< the kernel was compiled, and could not be loaded for want of a driver: the
                 ///< graph is fine
    no_library,  ///< libcuda is not there or lacks symbols: nothing was learnt
    refused,
  };
  Ending ending;
  std::string engine;  ///< of the first plan: "eng2_k24=7"
  int64_t workspace_bytes;
  std::string reason;  ///< cuDNN's, where it was not built
};

/// What making this graph's plan would give on such a device. The same code makes the plans of
/// CudnnAttention.
GraphReport examine_graph(const AttentionGraph& graph, const DeviceDescription& device);

}  // namespace ringbolt::cuda
