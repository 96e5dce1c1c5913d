// Streams in capture on the emulated device: what becomes of their work, and what is refused.
#include <cuda_runtime.h>

#include <cmath>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/emulated_cuda/device.h"

namespace ringbolt::emulated_cuda {
namespace {

void add_kernel(const float* from, float value, float* to) { *to = *from + value; }
void sum_kernel(const float* a, const float* b, float* to) { *to += *a + *b; }

class EmulatedCapture : public testing::Test {
 protected:
  EmulatedCapture() {
    for (cudaStream_t* s : {&first_, &second_})
      EXPECT_EQ(cudaStreamCreateWithFlags(s, cudaStreamNonBlocking), cudaSuccess);
    for (cudaEvent_t* e : {&fork_, &join_})
      EXPECT_EQ(cudaEventCreateWithFlags(e, cudaEventDisableTiming), cudaSuccess);
    EXPECT_EQ(cudaMallocAsync(reinterpret_cast<void**>(&data_), 64, first_), cudaSuccess);
    EXPECT_EQ(cudaMemsetAsync(data_, 0, 64, first_), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
  }
  EmulatedCapture(const EmulatedCapture&) = delete;
  EmulatedCapture& operator=(const EmulatedCapture&) = delete;
  ~EmulatedCapture() override {
    cudaFreeAsync(data_, first_);
    cudaStreamDestroy(first_);
    cudaStreamDestroy(second_);
    cudaEventDestroy(fork_);
    cudaEventDestroy(join_);
    cudaGetLastError();
    Device::get().set_seed(1);
  }

  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
    ASSERT_EQ(cudaStreamBeginCapture(first_, mode), cudaSuccess);
  }
  cudaError_t end() { return cudaStreamEndCapture(first_, &graph_); }
  template <class... Parameters, class... Arguments>
  void launch(cudaStream_t stream, void (*kernel)(Parameters...), Arguments... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = config.blockDim = dim3(1);
    config.stream = stream;
    EXPECT_EQ(cudaLaunchKernelEx(&config, kernel, arguments...), cudaSuccess);
  }
  float read(int i) {
    float x = 0;
    EXPECT_EQ(cudaMemcpyAsync(&x, data_ + i, 4, cudaMemcpyDeviceToHost, first_), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
    return x;
  }
  cudaGraphExec_t instantiate() {
    cudaGraphExec_t executable = nullptr;
    EXPECT_EQ(cudaGraphInstantiate(&executable, graph_, 0), cudaSuccess);
    return executable;
  }
  void destroy(cudaGraphExec_t executable) {
    EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph_), cudaSuccess);
  }

  /// data[3] += (data[0] + 1) + (data[0] + 2), the second term on another stream.
  void capture_diamond(bool joined_by_data) {
    float* scratch = nullptr;
    begin();
    ASSERT_EQ(cudaMallocAsync(reinterpret_cast<void**>(&scratch), 8, first_), cudaSuccess);
    ASSERT_EQ(cudaEventRecord(fork_, first_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(second_, fork_, 0), cudaSuccess);
    if (!joined_by_data) {
      ASSERT_EQ(cudaEventRecord(join_, second_), cudaSuccess);
    }
    launch(second_, add_kernel, data_, 2.0F, scratch + 1);
    launch(first_, add_kernel, data_, 1.0F, scratch);
    if (joined_by_data) {
      ASSERT_EQ(cudaEventRecord(join_, second_), cudaSuccess);
    }
    ASSERT_EQ(cudaStreamWaitEvent(first_, join_, 0), cudaSuccess);
    launch(first_, sum_kernel, scratch, scratch + 1, data_ + 3);
    ASSERT_EQ(cudaEventRecord(join_, second_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(first_, join_, 0), cudaSuccess);
    ASSERT_EQ(cudaFreeAsync(scratch, first_), cudaSuccess);
    ASSERT_EQ(end(), cudaSuccess);
  }
  /// Results of one graph launched with several seeds.
  int wrong_of_forty() {
    cudaGraphExec_t executable = instantiate();
    int wrong = 0;
    for (uint64_t seed = 0; seed < 40; ++seed) {
      Device::get().set_seed(seed);
      EXPECT_EQ(cudaMemsetAsync(data_, 0, 64, first_), cudaSuccess);
      EXPECT_EQ(cudaGraphLaunch(executable, first_), cudaSuccess);
      EXPECT_EQ(cudaGraphLaunch(executable, first_), cudaSuccess);
      if (read(3) != 6.0F) ++wrong;
    }
    destroy(executable);
    return wrong;
  }

  cudaStream_t first_ = nullptr, second_ = nullptr;
  cudaEvent_t fork_ = nullptr, join_ = nullptr;
  cudaGraph_t graph_ = nullptr;
  float* data_ = nullptr;
};

TEST_F(EmulatedCapture, RunsNothingUntilItsGraphIsLaunched) {
  capture_diamond(true);
  EXPECT_EQ(read(3), 0.0F);
  EXPECT_EQ(wrong_of_forty(), 0);
}

TEST_F(EmulatedCapture, AMissingEdgeGivesAWrongResultForSomeSeed) {
  capture_diamond(false);
  const int wrong = wrong_of_forty();
  EXPECT_GT(wrong, 0);
  EXPECT_LT(wrong, 40);
}

TEST_F(EmulatedCapture, RefusesWhatWaitsForTheDevice) {
  float host = 0;
  void* pinned = nullptr;
  cudaEvent_t older = nullptr;
  ASSERT_EQ(cudaEventCreateWithFlags(&older, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(older, second_), cudaSuccess);
  const std::vector<std::pair<std::string, std::function<cudaError_t()>>> calls{
      {"cudaStreamSynchronize", [&] { return cudaStreamSynchronize(first_); }},
      {"cudaStreamSynchronize of another", [&] { return cudaStreamSynchronize(second_); }},
      {"cudaStreamQuery", [&] { return cudaStreamQuery(first_); }},
      {"cudaDeviceSynchronize", [] { return cudaDeviceSynchronize(); }},
      {"cudaEventQuery", [&] { return cudaEventQuery(older); }},
      {"cudaEventSynchronize", [&] { return cudaEventSynchronize(older); }},
      {"cudaMallocHost", [&] { return cudaMallocHost(&pinned, 8); }},
      {"cudaMemPoolTrimTo", [] { return cudaMemPoolTrimTo(nullptr, 0); }},
      {"a pageable copy",
       [&] { return cudaMemcpyAsync(&host, data_, 4, cudaMemcpyDeviceToHost, first_); }}};
  for (const auto& [name, call] : calls) {
    begin();
    EXPECT_EQ(call(), cudaErrorStreamCaptureUnsupported) << name;
    EXPECT_EQ(cudaMemsetAsync(data_, 0, 4, first_), cudaErrorStreamCaptureInvalidated) << name;
    EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated) << name;
    EXPECT_EQ(graph_, nullptr);
    EXPECT_EQ(cudaStreamSynchronize(first_), cudaSuccess) << name;
  }
  begin();
  ASSERT_EQ(cudaEventRecord(fork_, first_), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(fork_), cudaErrorCapturedEvent);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  begin();
  EXPECT_EQ(cudaStreamWaitEvent(first_, older, 0), cudaErrorStreamCaptureIsolation);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaEventDestroy(older), cudaSuccess);
}

TEST_F(EmulatedCapture, OfAThreadLeavesOtherThreadsAlone) {
  begin();
  std::thread([&] { EXPECT_EQ(cudaStreamSynchronize(second_), cudaSuccess); }).join();
  ASSERT_EQ(end(), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph_), cudaSuccess);
  begin(cudaStreamCaptureModeGlobal);
  std::thread([&] {
    EXPECT_EQ(cudaStreamSynchronize(second_), cudaErrorStreamCaptureUnsupported);
  }).join();
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
}

TEST_F(EmulatedCapture, AStreamThatJoinedItMustBeJoinedToIt) {
  begin();
  ASSERT_EQ(cudaEventRecord(fork_, first_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(second_, fork_, 0), cudaSuccess);
  launch(second_, add_kernel, data_, 1.0F, data_ + 1);
  EXPECT_EQ(end(), cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(graph_, nullptr);
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusActive;
  EXPECT_EQ(cudaStreamIsCapturing(second_, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusNone);
}

TEST_F(EmulatedCapture, TwoCapturesCannotMeet) {
  begin();
  ASSERT_EQ(cudaStreamBeginCapture(second_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(fork_, first_), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(second_, fork_, 0), cudaErrorStreamCaptureMerge);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaStreamEndCapture(second_, &graph_), cudaErrorStreamCaptureInvalidated);
}

TEST_F(EmulatedCapture, MemoryLeftByALaunchHasToBeReleasedBeforeTheNext) {
  float* left = nullptr;
  begin();
  ASSERT_EQ(cudaMallocAsync(reinterpret_cast<void**>(&left), 4, first_), cudaSuccess);
  launch(first_, add_kernel, data_, 5.0F, left);
  ASSERT_EQ(end(), cudaSuccess);
  cudaGraphExec_t executable = instantiate();
  for (int repetition = 0; repetition < 2; ++repetition) {
    ASSERT_EQ(cudaGraphLaunch(executable, first_), cudaSuccess);
    EXPECT_EQ(cudaGraphLaunch(executable, first_), cudaErrorInvalidValue);
    float value = 0;
    ASSERT_EQ(cudaMemcpyAsync(&value, left, 4, cudaMemcpyDeviceToHost, first_), cudaSuccess);
    ASSERT_EQ(cudaFreeAsync(left, first_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
    EXPECT_EQ(value, 5.0F);
  }
  cudaGraphExec_t another = nullptr;
  EXPECT_EQ(cudaGraphInstantiate(&another, graph_, 0), cudaErrorInvalidValue);
  destroy(executable);
}

TEST_F(EmulatedCapture, OlderMemoryCannotBeReleasedInIt) {
  begin();
  EXPECT_EQ(cudaFreeAsync(data_, first_), cudaErrorInvalidValue);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
}

TEST_F(EmulatedCapture, AGraphFindsNoRoomWhileThePoolKeepsWhatWasReleased) {
  constexpr size_t kKept = size_t{1} << 20;
  const size_t kWanted = Device::get().total_bytes() - kKept / 2;
  void* block = nullptr;
  ASSERT_EQ(cudaMallocAsync(&block, kKept, first_), cudaSuccess);
  ASSERT_EQ(cudaFreeAsync(block, first_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
  begin();
  ASSERT_EQ(end(), cudaSuccess);
  graph_->graph->peak_bytes = kWanted;
  cudaGraphExec_t executable = instantiate();
  EXPECT_EQ(cudaGraphLaunch(executable, first_), cudaErrorMemoryAllocation);
  ASSERT_EQ(cudaMemPoolTrimTo(nullptr, 0), cudaSuccess);
  EXPECT_EQ(cudaGraphLaunch(executable, first_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
  EXPECT_EQ(cudaMallocAsync(&block, kKept, first_), cudaErrorMemoryAllocation);
  size_t free = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  EXPECT_LT(free, kKept);  // it keeps them for the next launch …
  ASSERT_EQ(cudaDeviceGraphMemTrim(0), cudaSuccess);
  ASSERT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  EXPECT_GT(free, kWanted);  // … until they are asked back
  destroy(executable);
}

}  // namespace
}  // namespace ringbolt::emulated_cuda
