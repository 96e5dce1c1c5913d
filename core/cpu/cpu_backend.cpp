#include <cstring>
#include <utility>

#include "core/backend/backend.h"
#include "core/base/error.h"
#include "core/cpu/allocator.h"
#include "core/cpu/attention.h"
#include "core/cpu/isa.h"
#include "core/cpu/matmul.h"
#include "core/cpu/parallel_for.h"
#include "core/cpu/progress.h"
#include "core/cpu/quantize.h"
#include "core/cpu/rowwise.h"

namespace ringbolt {
namespace {

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(int threads)
      : isa_(cpu::choose_isa()), kernels_(cpu::rowwise_kernels(isa_)), matmul_(isa_, allocator_) {
    if (threads > 0) cpu::set_threads(threads);
  }

  std::string name() const override { return "cpu"; }
  std::string description() const override {
    return concat(cpu::name_of(isa_), " kernels, ", cpu::matmul_library(), ", ", cpu::max_threads(),
                  " threads");
  }

  Tensor allocate(DType dtype, Shape shape) override {
    return {allocator_.allocate(shape.elements() * size_of(dtype)), dtype, shape};
  }
  MemoryUse memory() const override { return allocator_.use(); }
  void reset_peak_memory() override { allocator_.reset_peak(); }

  void synchronize() override {}
  Transfers* transfers() override { return nullptr; }
  Recorder* recorder() override { return nullptr; }
  void set_progress(std::function<void()> poll) override { progress_.set(std::move(poll)); }
  void upload(const void* host, View device) override {
    RINGBOLT_CHECK(device.is_contiguous());
    if (device.empty()) return;  // memcpy takes no null pointer, not even for no bytes
    std::memcpy(device.bytes(), host, static_cast<size_t>(device.bytes_needed()));
  }
  void download(ConstView device, void* host) override {
    const auto row_bytes = static_cast<size_t>(device.row_elements() * size_of(device.dtype()));
    auto* to = static_cast<std::byte*>(host);
    if (device.empty()) return;
    for (int64_t row = 0; row < device.rows(); ++row, to += row_bytes) {
      std::memcpy(to, device.bytes() + row * device.row_stride() * size_of(device.dtype()),
                  row_bytes);
    }
  }
  void fill_zero(View x) override { cpu::fill_zero(x); }
  void convert(ConstView x, View y) override { cpu::convert(kernels_, x, y); }
  void add(ConstView x, View y) override { cpu::add(kernels_, x, y); }

  void matmul(ConstView a, Transpose transpose_a, ConstView b, Transpose transpose_b, View c,
              Update update, std::optional<ConstView> bias) override {
    matmul_(a, transpose_a, b, transpose_b, c, update, bias);
  }
  void bias_backward(ConstView dy, View dbias) override { cpu::bias_backward(kernels_, dy, dbias); }

  void embedding_forward(ConstView table, ConstView ids, View y) override {
    cpu::embedding_forward(table, ids, y);
  }
  void embedding_backward(ConstView dy, ConstView ids, View dtable) override {
    cpu::embedding_backward(kernels_, dy, ids, dtable);
  }
  void rms_norm_forward(ConstView x, ConstView weight, float epsilon, View y, View rstd) override {
    cpu::rms_norm_forward(kernels_, x, weight, epsilon, y, rstd);
  }
  void rms_norm_backward(ConstView dy, ConstView x, ConstView weight, ConstView rstd, View dx,
                         View dweight) override {
    cpu::rms_norm_backward(kernels_, dy, x, weight, rstd, dx, dweight);
  }
  void rotary(View x, ConstView cos, ConstView sin, RotaryPairing pairing,
              RotaryDirection direction, std::optional<ConstView> scale) override {
    cpu::rotary(kernels_, x, cos, sin, pairing, direction, scale);
  }
  void rotary_angle_backward(ConstView x, ConstView dx, RotaryPairing pairing,
                             View dangles) override {
    cpu::rotary_angle_backward(kernels_, x, dx, pairing, dangles);
  }
  void swiglu_forward(ConstView gate_up, View y) override {
    cpu::swiglu_forward(kernels_, gate_up, y);
  }
  void swiglu_backward(ConstView dy, View gate_up) override {
    cpu::swiglu_backward(kernels_, dy, gate_up);
  }
  void cross_entropy(const CrossEntropyViews& views, float gradient_scale) override {
    cpu::cross_entropy(kernels_, views, gradient_scale);
  }

  void attention_forward(SliceList slices, ConstView q, ConstView k, ConstView v, float scale,
                         View out, View lse) override {
    cpu::attention_forward(slices, q, k, v, scale, out, lse, isa_, &progress_);
  }
  void begin_attention(View out, View lse) override { cpu::begin_attention(out, lse); }
  void merge_attention(ConstView other_out, ConstView other_lse, View out, View lse) override {
    cpu::merge_attention(kernels_, other_out, other_lse, out, lse);
  }
  void attention_delta(ConstView dout, ConstView out, View delta) override {
    cpu::attention_delta(kernels_, dout, out, delta);
  }
  void attention_backward(SliceList slices, ConstView q, ConstView k, ConstView v, ConstView dout,
                          ConstView lse, ConstView delta, float scale, View dq, View dk,
                          View dv) override {
    cpu::attention_backward(slices, q, k, v, dout, lse, delta, scale, dq, dk, dv, isa_, &progress_);
  }

  void require_e4m3_attention(E4m3Output) const override {}
  void quantize(ConstView x, View codes, View scales, std::optional<ConstView> centre) override {
    cpu::quantize(x, codes, scales, centre);
  }
  void column_means(ConstView x, View means) override { cpu::column_means(x, means); }
  void shift_lse(const E4m3View& q, ConstView centre, float factor, View lse) override {
    cpu::shift_lse(q, centre, factor, lse);
  }
  void attention_forward_e4m3(SliceList slices, const E4m3View& q, const E4m3View& k,
                              const E4m3View& v, float scale, E4m3Output output, View out,
                              View lse) override {
    cpu::attention_forward_e4m3(slices, q, k, v, scale, output, out, lse, isa_, kernels_,
                                allocator_, &progress_);
  }

  double sum_of_squares(ConstView x) override { return cpu::sum_of_squares(kernels_, x); }
  void adamw(const AdamWStep& step, ConstView gradient, View master, View m, View v,
             View weight) override {
    cpu::adamw(kernels_, step, gradient, master, m, v, weight);
  }

 private:
  cpu::Isa isa_;
  const cpu::RowwiseKernels& kernels_;
  cpu::Allocator allocator_;
  cpu::Matmul matmul_;
  cpu::Progress progress_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(int threads) {
  return std::make_unique<CpuBackend>(threads);
}

}  // namespace ringbolt
