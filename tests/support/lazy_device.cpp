#include "tests/support/lazy_device.h"

#include <cstring>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "tests/support/lazy_streams.h"

namespace ringbolt::testing_support {
namespace {

class LazyTransfers final : public Transfers {
 public:
  LazyTransfers(LazyDevice& device, LazyDevice::Stream& compute)
      : device_(device), compute_(compute) {
    device_.add(&stream_);
  }
  LazyTransfers(const LazyTransfers&) = delete;
  LazyTransfers& operator=(const LazyTransfers&) = delete;
  ~LazyTransfers() override {
    device_.run_until(transferred());
    device_.remove(&stream_);
  }

  void enter_thread() override {}
  Mark computed() override { return device_.record(compute_); }
  Mark transferred() override { return device_.record(stream_); }
  void transfer_after(const Mark& mark) override { device_.wait_in(stream_, mark); }
  void compute_after(const Mark& mark) override { device_.wait_in(compute_, mark); }
  void copy(const std::byte* from, std::byte* to, size_t bytes, Way) override {
    device_.give(stream_, {.run =
                               [=] {
                                 if (bytes > 0) std::memcpy(to, from, bytes);
                               },
                           .until = nullptr});
  }
  void begin_pause() override {}
  void end_pause() override {}
  double take_paused_seconds() override { return 0; }
  bool is_done(const Mark& mark) override { return device_.is_done(mark); }
  void wait(const Mark& mark) override { device_.run_until(mark); }
  std::shared_ptr<std::byte> host_memory(size_t bytes) override {
    const auto memory = std::make_shared<std::vector<std::byte>>(bytes, std::byte{0xFF});
    return {memory, memory->data()};
  }

 private:
  LazyDevice& device_;
  LazyDevice::Stream& compute_;
  LazyDevice::Stream stream_;
};

class LazyBackend final : public Backend {
 public:
  LazyBackend(std::shared_ptr<LazyDevice> device, const MakeTransfers& make)
      : device_(std::move(device)), cpu_(make_cpu_backend(1)) {
    device_->add(&compute_);
    transfers_ = make ? make(compute_) : std::make_unique<LazyTransfers>(*device_, compute_);
  }
  LazyBackend(const LazyBackend&) = delete;
  LazyBackend& operator=(const LazyBackend&) = delete;
  ~LazyBackend() override {
    synchronize();
    transfers_.reset();
    device_->remove(&compute_);
  }

  std::string name() const override { return "lazy"; }
  std::string description() const override { return "the CPU, as a device with streams"; }
  Tensor allocate(DType dtype, Shape shape) override;
  MemoryUse memory() const override { return cpu_->memory(); }
  void reset_peak_memory() override { cpu_->reset_peak_memory(); }
  void synchronize() override { device_->run_until(device_->record(compute_)); }
  Transfers* transfers() override { return transfers_.get(); }
  Recorder* recorder() override { return nullptr; }
  void set_progress(std::function<void()>) override {}
  void upload(const void* host, View x) override {
    const auto* bytes = static_cast<const std::byte*>(host);
    const auto kept = std::make_shared<std::vector<std::byte>>(bytes, bytes + x.bytes_needed());
    give([=](Backend& cpu) { cpu.upload(kept->data(), x); });
  }
  void download(ConstView x, void* host) override {
    synchronize();
    cpu_->download(x, host);
  }
  void fill_zero(View x) override {
    give([=](Backend& cpu) { cpu.fill_zero(x); });
  }
  void convert(ConstView x, View y) override {
    give([=](Backend& cpu) { cpu.convert(x, y); });
  }
  void add(ConstView x, View y) override {
    give([=](Backend& cpu) { cpu.add(x, y); });
  }
  void matmul(ConstView a, Transpose ta, ConstView b, Transpose tb, View c, Update update,
              std::optional<ConstView> bias) override {
    give([=](Backend& cpu) { cpu.matmul(a, ta, b, tb, c, update, bias); });
  }
  void bias_backward(ConstView dy, View dbias) override {
    give([=](Backend& cpu) { cpu.bias_backward(dy, dbias); });
  }
  void embedding_forward(ConstView table, ConstView ids, View y) override {
    give([=](Backend& cpu) { cpu.embedding_forward(table, ids, y); });
  }
  void embedding_backward(ConstView dy, ConstView ids, View dtable) override {
    give([=](Backend& cpu) { cpu.embedding_backward(dy, ids, dtable); });
  }
  void rms_norm_forward(ConstView x, ConstView weight, float epsilon, View y, View rstd) override {
    give([=](Backend& cpu) { cpu.rms_norm_forward(x, weight, epsilon, y, rstd); });
  }
  void rms_norm_backward(ConstView dy, ConstView x, ConstView weight, ConstView rstd, View dx,
                         View dweight) override {
    give([=](Backend& cpu) { cpu.rms_norm_backward(dy, x, weight, rstd, dx, dweight); });
  }
  void rotary(View x, ConstView cos, ConstView sin, RotaryPairing pairing,
              RotaryDirection direction, std::optional<ConstView> scale) override {
    give([=](Backend& cpu) { cpu.rotary(x, cos, sin, pairing, direction, scale); });
  }
  void rotary_angle_backward(ConstView x, ConstView dx, RotaryPairing pairing,
                             View dangles) override {
    give([=](Backend& cpu) { cpu.rotary_angle_backward(x, dx, pairing, dangles); });
  }
  void swiglu_forward(ConstView gate_up, View y) override {
    give([=](Backend& cpu) { cpu.swiglu_forward(gate_up, y); });
  }
  void swiglu_backward(ConstView dy, View gate_up) override {
    give([=](Backend& cpu) { cpu.swiglu_backward(dy, gate_up); });
  }
  void cross_entropy(const CrossEntropyViews& views, float scale) override {
    give([=](Backend& cpu) { cpu.cross_entropy(views, scale); });
  }
  void attention_forward(SliceList slices, ConstView q, ConstView k, ConstView v, float scale,
                         View out, View lse) override {
    const std::vector<AttentionSlice> kept(slices.begin(), slices.end());
    give([=](Backend& cpu) { cpu.attention_forward(kept, q, k, v, scale, out, lse); });
  }
  void begin_attention(View out, View lse) override {
    give([=](Backend& cpu) { cpu.begin_attention(out, lse); });
  }
  void merge_attention(ConstView other_out, ConstView other_lse, View out, View lse) override {
    give([=](Backend& cpu) { cpu.merge_attention(other_out, other_lse, out, lse); });
  }
  void attention_delta(ConstView dout, ConstView out, View delta) override {
    give([=](Backend& cpu) { cpu.attention_delta(dout, out, delta); });
  }
  void attention_backward(SliceList slices, ConstView q, ConstView k, ConstView v, ConstView dout,
                          ConstView lse, ConstView delta, float scale, View dq, View dk,
                          View dv) override {
    const std::vector<AttentionSlice> kept(slices.begin(), slices.end());
    give([=](Backend& cpu) {
      cpu.attention_backward(kept, q, k, v, dout, lse, delta, scale, dq, dk, dv);
    });
  }
  void require_e4m3_attention(E4m3Output) const override {}
  void quantize(ConstView x, View codes, View scales, std::optional<ConstView> centre) override {
    give([=](Backend& cpu) { cpu.quantize(x, codes, scales, centre); });
  }
  void column_means(ConstView x, View means) override {
    give([=](Backend& cpu) { cpu.column_means(x, means); });
  }
  void shift_lse(const E4m3View& q, ConstView centre, float factor, View lse) override {
    give([=](Backend& cpu) { cpu.shift_lse(q, centre, factor, lse); });
  }
  void attention_forward_e4m3(SliceList slices, const E4m3View& q, const E4m3View& k,
                              const E4m3View& v, float scale, E4m3Output output, View out,
                              View lse) override {
    const std::vector<AttentionSlice> kept(slices.begin(), slices.end());
    give([=](Backend& cpu) { cpu.attention_forward_e4m3(kept, q, k, v, scale, output, out, lse); });
  }
  double sum_of_squares(ConstView x) override {
    synchronize();
    return cpu_->sum_of_squares(x);
  }
  void adamw(const AdamWStep& step, ConstView gradient, View master, View m, View v,
             View weight) override {
    give([=](Backend& cpu) { cpu.adamw(step, gradient, master, m, v, weight); });
  }

 private:
  template <class F>
  void give(F operation) {
    device_->give(compute_,
                  {.run = [cpu = cpu_.get(), operation] { operation(*cpu); }, .until = nullptr});
  }

  std::shared_ptr<LazyDevice> device_;
  std::unique_ptr<Backend> cpu_;
  LazyDevice::Stream compute_;
  std::unique_ptr<Transfers> transfers_;
};

Tensor LazyBackend::allocate(DType dtype, Shape shape) {
  const auto bytes = static_cast<size_t>(shape.elements() * size_of(dtype));
  const auto block = std::make_shared<Tensor>(cpu_->allocate(dtype, shape));
  std::byte* data = block->view().bytes();
  const auto spoil = [data, bytes] {
    if (bytes > 0) std::memset(data, 0xFF, bytes);
  };
  give([spoil](Backend&) { spoil(); });
  // Released in the order of the stream, as cudaFreeAsync does it.
  return {
      std::shared_ptr<std::byte>(
          data, [this, block, spoil](std::byte*) { give([block, spoil](Backend&) { spoil(); }); }),
      dtype, shape};
}

}  // namespace

std::shared_ptr<LazyDevice> make_lazy_device(uint64_t seed) {
  return std::make_shared<LazyDevice>(seed);
}

std::unique_ptr<Backend> make_lazy_backend(std::shared_ptr<LazyDevice> device,
                                           const MakeTransfers& transfers) {
  return std::make_unique<LazyBackend>(std::move(device), transfers);
}

int64_t disorder(const LazyDevice& device) { return device.disorder(); }

}  // namespace ringbolt::testing_support
