#include "core/cuda/cuda_backend.h"

#include <array>
#include <cstring>

#include "core/base/error.h"
#include "core/cuda/attention.h"
#include "core/cuda/cublas.h"
#include "core/cuda/graph.h"
#include "core/cuda/memory.h"
#include "core/cuda/rowwise.h"
#include "core/cuda/runtime.h"
#include "core/cuda/transfers.h"

namespace ringbolt {
namespace {

using cuda::HostBuffer;

/// Small uploads (token ids, targets) go through pinned slots, so that the host does not wait for
/// the stream. A slot is used again when its last copy is done.
class Uploader {
 public:
  static constexpr size_t kSlotBytes = size_t{1} << 20;

  explicit Uploader(cudaStream_t stream) : stream_(stream) {}

  void upload(const void* host, std::byte* device, size_t bytes) {
    if (bytes > kSlotBytes) {
      RINGBOLT_CUDA(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_));
      RINGBOLT_CUDA(cudaStreamSynchronize(stream_));
      return;
    }
    Slot& slot = slots_[next_];
    next_ = (next_ + 1) % kSlots;
    if (slot.buffer == nullptr) {
      slot.buffer = std::make_unique<HostBuffer>(kSlotBytes);
      slot.done = cuda::make_event();
    } else {
      RINGBOLT_CUDA(cudaEventSynchronize(slot.done.get()));
    }
    std::memcpy(slot.buffer->data(), host, bytes);
    RINGBOLT_CUDA(
        cudaMemcpyAsync(device, slot.buffer->data(), bytes, cudaMemcpyHostToDevice, stream_));
    RINGBOLT_CUDA(cudaEventRecord(slot.done.get(), stream_));
  }

 private:
  static constexpr size_t kSlots = 4;
  struct Slot {
    std::unique_ptr<HostBuffer> buffer;
    cuda::Event done;
  };

  cudaStream_t stream_;
  Slot slots_[kSlots];
  size_t next_ = 0;
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int device)
      : facts_(cuda::open_device(device)),
        stream_(cuda::make_stream()),
        memory_(device, stream_.get()),
        recorder_(stream_.get(), memory_),
        transfers_(device, stream_.get()),
        uploader_(stream_.get()),
        scalar_(sizeof(double)),
        matmul_(stream_.get(), memory_),
        attention_(stream_.get(), memory_, facts_) {}
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;
  ~CudaBackend() override {
    cuda::check_quietly(cudaStreamSynchronize(stream_.get()), "the last work of a GPU");
  }

  std::string name() const override { return "cuda"; }
  std::string description() const override {
    return concat(facts_.name, " (number ", facts_.number, "), ", facts_.memory_bytes >> 30,
                  " GiB, compute capability ", facts_.arch / 10, ".", facts_.arch % 10, ", ",
                  cuda::Matmul::library(), ", ", cuda::CudnnAttention::library());
  }

  // --- memory ------------------------------------------------------------------------------------
  Tensor allocate(DType dtype, Shape shape) override {
    return {memory_.allocate(shape.elements() * size_of(dtype)), dtype, shape};
  }
  MemoryUse memory() const override { return memory_.use(); }
  void reset_peak_memory() override { memory_.reset_peak(); }
  Transfers* transfers() override { return &transfers_; }
  Recorder* recorder() override { return &recorder_; }
  void set_progress(std::function<void()>) override {}
  void synchronize() override {
    recorder_.require_none("synchronize");
    RINGBOLT_CUDA(cudaStreamSynchronize(stream()));
  }
  void upload(const void* host, View device) override {
    RINGBOLT_CHECK(device.is_contiguous());
    recorder_.require_none("upload");
    if (device.empty()) return;
    uploader_.upload(host, device.bytes(), static_cast<size_t>(device.bytes_needed()));
  }
  void download(ConstView device, void* host) override {
    recorder_.require_none("download");
    if (device.empty()) return;
    const auto rows = static_cast<size_t>(device.rows());
    const auto row_bytes = static_cast<size_t>(device.row_elements() * size_of(device.dtype()));
    if (device.is_contiguous()) {
      RINGBOLT_CUDA(cudaMemcpyAsync(host, device.bytes(), row_bytes * rows, cudaMemcpyDeviceToHost,
                                    stream()));
    } else {
      RINGBOLT_CUDA(
          cudaMemcpy2DAsync(host, row_bytes, device.bytes(),
                            static_cast<size_t>(device.row_stride() * size_of(device.dtype())),
                            row_bytes, rows, cudaMemcpyDeviceToHost, stream()));
    }
    synchronize();
  }
  void fill_zero(View x) override {
    if (x.empty()) return;
    const auto row_bytes = static_cast<size_t>(x.row_elements() * size_of(x.dtype()));
    if (x.is_contiguous()) {
      RINGBOLT_CUDA(
          cudaMemsetAsync(x.bytes(), 0, row_bytes * static_cast<size_t>(x.rows()), stream()));
    } else {
      RINGBOLT_CUDA(cudaMemset2DAsync(x.bytes(),
                                      static_cast<size_t>(x.row_stride() * size_of(x.dtype())), 0,
                                      row_bytes, static_cast<size_t>(x.rows()), stream()));
    }
  }
  void convert(ConstView x, View y) override { cuda::convert(stream(), x, y); }
  void add(ConstView x, View y) override { cuda::add(stream(), x, y); }

  // --- linear, embedding -------------------------------------------------------------------------
  void matmul(ConstView a, Transpose transpose_a, ConstView b, Transpose transpose_b, View c,
              Update update, std::optional<ConstView> bias) override {
    matmul_(a, transpose_a, b, transpose_b, c, update, bias);
  }
  void bias_backward(ConstView dy, View dbias) override {
    cuda::bias_backward(stream(), memory_, dy, dbias);
  }
  void embedding_forward(ConstView table, ConstView ids, View y) override {
    cuda::embedding_forward(stream(), table, ids, y);
  }
  void embedding_backward(ConstView dy, ConstView ids, View dtable) override {
    cuda::embedding_backward(stream(), memory_, dy, ids, dtable);
  }

  // --- row-wise ----------------------------------------------------------------------------------
  void rms_norm_forward(ConstView x, ConstView weight, float epsilon, View y, View rstd) override {
    cuda::rms_norm_forward(stream(), x, weight, epsilon, y, rstd);
  }
  void rms_norm_backward(ConstView dy, ConstView x, ConstView weight, ConstView rstd, View dx,
                         View dweight) override {
    cuda::rms_norm_backward(stream(), memory_, dy, x, weight, rstd, dx, dweight);
  }
  void rotary(View x, ConstView cos, ConstView sin, RotaryPairing pairing,
              RotaryDirection direction, std::optional<ConstView> scale) override {
    cuda::rotary(stream(), x, cos, sin, pairing, direction, scale);
  }
  void rotary_angle_backward(ConstView x, ConstView dx, RotaryPairing pairing,
                             View dangles) override {
    cuda::rotary_angle_backward(stream(), x, dx, pairing, dangles);
  }
  void swiglu_forward(ConstView gate_up, View y) override {
    cuda::swiglu_forward(stream(), gate_up, y);
  }
  void swiglu_backward(ConstView dy, View gate_up) override {
    cuda::swiglu_backward(stream(), dy, gate_up);
  }
  void cross_entropy(const CrossEntropyViews& views, float gradient_scale) override {
    cuda::cross_entropy(stream(), views, gradient_scale);
  }

  // --- attention ---------------------------------------------------------------------------------
  void attention_forward(SliceList slices, ConstView q, ConstView k, ConstView v, float scale,
                         View out, View lse) override {
    attention_.forward(slices, q, k, v, scale, out, lse);
  }
  void begin_attention(View out, View lse) override { cuda::begin_attention(stream(), out, lse); }
  void merge_attention(ConstView other_out, ConstView other_lse, View out, View lse) override {
    cuda::merge_attention(stream(), other_out, other_lse, out, lse);
  }
  void attention_delta(ConstView dout, ConstView out, View delta) override {
    cuda::attention_delta(stream(), dout, out, delta);
  }
  void attention_backward(SliceList slices, ConstView q, ConstView k, ConstView v, ConstView dout,
                          ConstView lse, ConstView delta, float scale, View dq, View dk,
                          View dv) override {
    attention_.backward(slices, q, k, v, dout, lse, delta, scale, dq, dk, dv);
  }

  // --- fp8 attention -----------------------------------------------------------------------------
  void require_e4m3_attention(E4m3Output output) const override {
    const std::string why = cuda::why_no_e4m3_attention(facts_.arch, output);
    if (!why.empty()) throw UsageError(why);
  }
  void quantize(ConstView x, View codes, View scales, std::optional<ConstView> centre) override {
    cuda::quantize(stream(), memory_, x, codes, scales, centre);
  }
  void column_means(ConstView x, View means) override {
    cuda::column_means(stream(), memory_, x, means);
  }
  void shift_lse(const E4m3View& q, ConstView centre, float factor, View lse) override {
    cuda::shift_lse(stream(), q, centre, factor, lse);
  }
  void attention_forward_e4m3(SliceList slices, const E4m3View& q, const E4m3View& k,
                              const E4m3View& v, float scale, E4m3Output output, View out,
                              View lse) override {
    attention_.forward_e4m3(slices, q, k, v, scale, output, out, lse);
  }

  // --- optimizer ---------------------------------------------------------------------------------
  double sum_of_squares(ConstView x) override {
    recorder_.require_none("sum_of_squares");
    const cuda::Scratch result(memory_, sizeof(double));
    cuda::sum_of_squares(stream(), memory_, x, result.as<double>());
    RINGBOLT_CUDA(cudaMemcpyAsync(scalar_.data(), result.as<double>(), sizeof(double),
                                  cudaMemcpyDeviceToHost, stream()));
    synchronize();
    double value = 0;
    std::memcpy(&value, scalar_.data(), sizeof(double));
    return value;
  }
  void adamw(const AdamWStep& step, ConstView gradient, View master, View m, View v,
             View weight) override {
    cuda::adamw(stream(), step, gradient, master, m, v, weight);
  }

 private:
  cudaStream_t stream() const { return stream_.get(); }

  cuda::DeviceFacts facts_;
  cuda::Stream stream_;
  cuda::Memory memory_;
  cuda::GraphRecorder recorder_;
  cuda::StreamTransfers transfers_;
  Uploader uploader_;
  HostBuffer scalar_;
  cuda::Matmul matmul_;
  cuda::Attention attention_;
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int device) {
  return std::make_unique<CudaBackend>(device);
}

int64_t cuda_memory_bytes(int device) {
  return static_cast<int64_t>(cuda::open_device(device).memory_bytes);
}

int cuda_device_count() { return cuda::count_devices(); }

std::string cuda_bus_id(int device) {
  std::array<char, 32> id{};
  RINGBOLT_CUDA(cudaDeviceGetPCIBusId(id.data(), static_cast<int>(id.size()), device));
  return id.data();
}

bool cuda_is_built() { return true; }

std::string why_no_cuda() {
  try {
    cuda::open_device(0);
    return "";
  } catch (const DeviceError& error) {
    return error.what();
  }
}

}  // namespace ringbolt
