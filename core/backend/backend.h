// The contract between the model and a device: about twenty coarse operations.
//
// The CPU backend is always there; CUDA comes from a factory of its own. Every operation is
// asynchronous on the backend's compute stream, in order; `download` and `synchronize` wait for it.
// (On the CPU an operation is done when it returns.) Shapes use the alphabet of core/base/shape.h.
// Unless said otherwise inputs and outputs must not overlap, activations and weights have one dtype
// A (f32 or bf16), and sums are formed in f32 and rounded once. "Error" bounds are relative to the
// largest magnitude of the exact result, eps being 2^-24 for f32 and 2^-8 for bf16 outputs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/backend/attention_slice.h"
#include "core/backend/recording.h"
#include "core/backend/transfers.h"
#include "core/tensor/tensor.h"

namespace ringbolt {

enum class Transpose { no, yes };
enum class Update { overwrite, accumulate };
/// Which elements of a head rotate together: (2i, 2i+1), or (i, i + R/2) as Hugging Face's
/// rotate_half has it.
enum class RotaryPairing { interleaved, half_split };
enum class RotaryDirection { forward, backward };

struct MemoryUse {
  int64_t live_bytes = 0;  ///< in tensors now
  int64_t peak_bytes = 0;  ///< the most since the last reset_peak_memory()
};

struct AdamWStep {
  float learning_rate;
  float beta1;
  float beta2;
  float epsilon;
  float weight_decay;
  float gradient_scale;  ///< multiplies the gradient first: 1, or what clipping leaves
  int64_t step;          ///< 1 for the first update (bias correction)
};

/// Losses of a chunk of C tokens and, where `gradient` is not empty, the gradient of their logits.
struct CrossEntropyViews {
  ConstView logits;   ///< (C, V) f32
  ConstView targets;  ///< (C) i32; a negative target is not counted
  View losses;        ///< (C) f32: -log softmax[target], 0 where not counted
  View hits;  ///< (C) i32: 1 where the target has the largest logit (the first one of equals), else
              ///< 0
  View gradient;  ///< (C, V) A or f32: (softmax - one-hot) * scale, zero rows where not counted;
                  ///< may be `logits` itself
};

/// An operand of fp8 attention: x = codes * scale.
struct E4m3View {
  ConstView codes;  ///< (T, N, D) e4m3
  ConstView scale;  ///< (1) f32, a power of two
};

/// What fp8 attention does with its output.
enum class E4m3Output {
  wide,     ///< nothing: its type's one rounding
  rounded,  ///< rounds it to E4M3 by v's scale before it is merged: all that Hopper's kernel can
            ///< write
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string name() const = 0;
  /// How the kernels were chosen, for `info` and for metrics: "avx512_bf16, 2 threads".
  virtual std::string description() const = 0;

  // --- memory ------------------------------------------------------------------------------------
  /// Uninitialised. Throws: DeviceError when the memory is not there. The backend must outlive the
  /// tensor.
  virtual Tensor allocate(DType dtype, Shape shape) = 0;
  virtual MemoryUse memory() const = 0;
  virtual void reset_peak_memory() = 0;

  virtual void synchronize() = 0;
  /// Copies beside the compute stream, and the order between both. None where tensors are host
  /// memory and operations are done when they return.
  virtual Transfers* transfers() = 0;
  /// Records operations, to give them to the device again as a whole. None where that saves
  /// nothing: on the CPU.
  virtual Recorder* recorder() = 0;
  /// A backend that computes on the calling thread calls `poll` from it between tiles of attention,
  /// about every 100 us, so that a transfer moves on while a kernel runs; an empty one ends that.
  /// What `poll` throws is thrown by the operation after its last tile. A device with streams of
  /// its own computes and transfers at once, and never calls it.
  virtual void set_progress(std::function<void()> poll) = 0;
  /// Host memory to device. The host memory is free again on return.
  virtual void upload(const void* host, View device) = 0;
  /// Device to host; waits.
  virtual void download(ConstView device, void* host) = 0;

  virtual void fill_zero(View x) = 0;
  /// Between any of f32 and bf16, same shape; strided rows allowed.
  virtual void convert(ConstView x, View y) = 0;
  /// y += x, both f32 of one shape; strided rows allowed. Error: one rounding of the sum.
  virtual void add(ConstView x, View y) = 0;

  // --- linear ------------------------------------------------------------------------------------
  /// c (M, N) = [c +] op(a) (M, Kd) * op(b) (Kd, N) [+ bias (N)]. dtypes: a and b alike; c is that
  /// dtype or f32. Rows may be strided. Error: Kd * eps in the accumulation, one rounding to c's
  /// dtype.
  virtual void matmul(ConstView a, Transpose transpose_a, ConstView b, Transpose transpose_b,
                      View c, Update update = Update::overwrite,
                      std::optional<ConstView> bias = std::nullopt) = 0;
  /// dbias (N) f32 += column sums of dy (T, N) A.
  virtual void bias_backward(ConstView dy, View dbias) = 0;

  // --- embedding ---------------------------------------------------------------------------------
  /// y (T, E) A = rows `ids` (T) i32 of table (V, E) A. Requires: 0 <= id < V.
  virtual void embedding_forward(ConstView table, ConstView ids, View y) = 0;
  /// dtable (V, E) f32 += dy (T, E) A by rows; a fixed order of addition.
  virtual void embedding_backward(ConstView dy, ConstView ids, View dtable) = 0;

  // --- row-wise ----------------------------------------------------------------------------------
  /// y (T, E) = x * rstd * weight (E), rstd (T) f32 = 1 / sqrt(mean(x^2) + epsilon). (RMSNorm,
  /// arXiv 1910.07467, eq. 4.)
  virtual void rms_norm_forward(ConstView x, ConstView weight, float epsilon, View y,
                                View rstd) = 0;
  /// dx (T, E) A += …; dweight (E) f32 += …, a fixed order of addition.
  virtual void rms_norm_backward(ConstView dy, ConstView x, ConstView weight, ConstView rstd,
                                 View dx, View dweight) = 0;

  /// Rotates the first R = 2 * cos.dim(1) elements of each head of x (T, N, D) in place, by row t
  /// of cos and sin (T, R/2) f32; backward is the transposed map. `scale` (T) f32, where given,
  /// multiplies whole rows (log-scaled attention).
  virtual void rotary(View x, ConstView cos, ConstView sin, RotaryPairing pairing,
                      RotaryDirection direction, std::optional<ConstView> scale = std::nullopt) = 0;
  /// dangles (T, R/2) f32 += the gradient of each pair's angle, summed over the heads of x (T, N,
  /// D): dx_second x_first - dx_first x_second of every pair. x is rotated (and scaled), and dx the
  /// gradient of that, before it is turned back; both A, rows may be strided. Error: (N + 2) *
  /// 2^-24 of the sum of the magnitudes of its terms.
  virtual void rotary_angle_backward(ConstView x, ConstView dx, RotaryPairing pairing,
                                     View dangles) = 0;

  /// y (T, F) = silu(g) * u, with (g, u) the halves of gate_up (T, 2F). (SwiGLU, arXiv 2002.05202.)
  virtual void swiglu_forward(ConstView gate_up, View y) = 0;
  /// Overwrites gate_up (T, 2F) with its gradient; dy (T, F).
  virtual void swiglu_backward(ConstView dy, View gate_up) = 0;

  /// See CrossEntropyViews. `gradient_scale` is 1 / (counted tokens of the whole step).
  virtual void cross_entropy(const CrossEntropyViews& views, float gradient_scale) = 0;

  // --- attention ---------------------------------------------------------------------------------
  /// Continues a running attention: out (T, H, D) and lse (T, H) f32 (natural logarithm) hold the
  /// normalised result over the keys seen so far, and leave with the slices' keys merged in. Start
  /// with `begin_attention`. q (T, H, D); k and v (Tk, K, D), strided rows allowed; query head h
  /// reads key head h / (H / K). `scale` multiplies the logits. A row with no key at all keeps out
  /// = 0, lse = -inf. out is f32, or A where the list is all there is (nothing continues a rounded
  /// output). Within one list no (query, key) pair may appear twice.
  virtual void attention_forward(SliceList slices, ConstView q, ConstView k, ConstView v,
                                 float scale, View out, View lse) = 0;
  /// out = 0, lse = -inf: attention over no keys.
  virtual void begin_attention(View out, View lse) = 0;
  /// out (T, H, D) and lse (T, H), the attention over some keys, and `other_out`, `other_lse`, that
  /// over others, become the attention over all of them; all f32, other_lse contiguous. Rows of
  /// either output that had no key are not read.
  virtual void merge_attention(ConstView other_out, ConstView other_lse, View out, View lse) = 0;
  /// delta (T, H) f32 = row sums of dout * out, both (T, H, D), of the merged output.
  virtual void attention_delta(ConstView dout, ConstView out, View delta) = 0;
  /// dq (T, H, D), dk and dv (Tk, K, D) f32 += the slices' share; lse and delta are those of the
  /// merged output. Bit-equal from run to run, but for bf16 on a GPU: cuDNN adds to dq in no fixed
  /// order.
  virtual void attention_backward(SliceList slices, ConstView q, ConstView k, ConstView v,
                                  ConstView dout, ConstView lse, ConstView delta, float scale,
                                  View dq, View dk, View dv) = 0;

  // --- fp8 attention, forward only ---------------------------------------------------------------
  /// Throws: UsageError, saying why, where the device has no fp8 attention with such an output.
  virtual void require_e4m3_attention(E4m3Output output) const = 0;
  /// x (T, N, D) A as codes (T, N, D) e4m3, rows of both may be strided. The heads are G equal
  /// parts, each with its scale in scales (G) f32: e4m3_scale() of the part's largest finite
  /// magnitude. `centre` (N, D) f32, where given, is taken from every row first. Error:
  /// core/base/e4m3.h.
  virtual void quantize(ConstView x, View codes, View scales,
                        std::optional<ConstView> centre = std::nullopt) = 0;
  /// means (N, D) f32 of the finite elements of each column of x (T, N, D) A, 0 where there are
  /// none; rows may be strided. Summed in a fixed order.
  virtual void column_means(ConstView x, View means) = 0;
  /// lse (T, H) f32 += factor * q . centre (K, D) f32, head by head as in attention_forward: what a
  /// shift of all keys by `centre` does to log-sum-exps, and the only thing that it does. -inf
  /// stays.
  virtual void shift_lse(const E4m3View& q, ConstView centre, float factor, View lse) = 0;
  /// As attention_forward, of E4M3 operands with a scale each. Logits and their statistics are f32,
  /// on Hopper of sums that keep 14 bits. Weights, at most 1 beside the row's largest so far, are
  /// rounded to multiples of E4M3 / 256 for the product with v, not for their sum; where they are
  /// not (pieces that a GPU's library does not take), the result is nearer to the exact one.
  /// `rounded` is done once for the list, or for each of a few parts of it.
  virtual void attention_forward_e4m3(SliceList slices, const E4m3View& q, const E4m3View& k,
                                      const E4m3View& v, float scale, E4m3Output output, View out,
                                      View lse) = 0;

  // --- optimizer ---------------------------------------------------------------------------------
  /// Sum of squares of x (f32), in double and in a fixed order. Waits.
  virtual double sum_of_squares(ConstView x) = 0;
  /// Decoupled weight decay (AdamW, arXiv 1711.05101, algorithm 2): master, m, v f32 in place;
  /// weight (A), where it is not the master itself, receives the rounded result. All of one shape,
  /// contiguous.
  virtual void adamw(const AdamWStep& step, ConstView gradient, View master, View m, View v,
                     View weight) = 0;
};

/// The CPU backend. `threads` 0 takes OMP_NUM_THREADS, else the cores this process may use.
/// Throws: UsageError where RINGBOLT_CPU_ISA names an instruction set that this machine lacks.
std::unique_ptr<Backend> make_cpu_backend(int threads = 0);

/// A tensor with the given host values.
Tensor upload_new(Backend& backend, DType dtype, Shape shape, const void* host);

/// The values as f32 on the host, contiguous.
std::vector<float> download_f32(Backend& backend, ConstView x);

}  // namespace ringbolt
