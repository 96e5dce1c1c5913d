// Streams, events and memory of the emulated device.
#include "tests/support/emulated_cuda/device.h"

#include <cuda_runtime.h>

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace ringbolt::emulated_cuda {
namespace {

struct Streams {
  Streams() {
    for (cudaStream_t* s : {&first, &second})
      EXPECT_EQ(cudaStreamCreateWithFlags(s, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  }
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;
  ~Streams() {
    cudaStreamDestroy(first);
    cudaStreamDestroy(second);
    cudaEventDestroy(event);
    Device::get().set_seed(1);
  }
  cudaStream_t first = nullptr, second = nullptr;
  cudaEvent_t event = nullptr;
};

void set_kernel(float* x, float value) { *x = value; }
void copy_kernel(const float* from, float* to) { *to = *from; }

cudaLaunchConfig_t one_thread(cudaStream_t stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(1);
  config.blockDim = dim3(1);
  config.stream = stream;
  return config;
}

/// What the second stream reads of what the first writes.
float read_across(Streams& s, bool ordered) {
  float* memory = nullptr;
  EXPECT_EQ(cudaMallocAsync(reinterpret_cast<void**>(&memory), 8, s.first), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(s.first), cudaSuccess);
  const auto on_first = one_thread(s.first), on_second = one_thread(s.second);
  EXPECT_EQ(cudaLaunchKernelEx(&on_first, set_kernel, memory, 7.0F), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(s.event, s.first), cudaSuccess);
  if (ordered) {
    EXPECT_EQ(cudaStreamWaitEvent(s.second, s.event, 0), cudaSuccess);
  }
  EXPECT_EQ(cudaLaunchKernelEx(&on_second, copy_kernel, memory, memory + 1), cudaSuccess);
  float read = 0;
  EXPECT_EQ(cudaMemcpyAsync(&read, memory + 1, 4, cudaMemcpyDeviceToHost, s.second), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(s.second), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(s.first), cudaSuccess);
  EXPECT_EQ(cudaFreeAsync(memory, s.first), cudaSuccess);
  return read;
}

TEST(EmulatedDevice, EventsOrderStreamsForEverySeed) {
  Streams s;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Device::get().set_seed(seed);
    EXPECT_EQ(read_across(s, true), 7.0F) << seed;
  }
}

TEST(EmulatedDevice, AMissingEventGivesAWrongResultForSomeSeed) {
  Streams s;
  int wrong = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Device::get().set_seed(seed);
    if (read_across(s, false) != 7.0F) ++wrong;
  }
  EXPECT_GT(wrong, 0);
  EXPECT_LT(wrong, 40);
}

TEST(EmulatedDevice, FreshMemoryHoldsNans) {
  Streams s;
  void* memory = nullptr;
  ASSERT_EQ(cudaMallocAsync(&memory, 12, s.first), cudaSuccess);
  std::vector<float> values(3, 0.0F);
  ASSERT_EQ(cudaMemcpyAsync(values.data(), memory, 12, cudaMemcpyDeviceToHost, s.first),
            cudaSuccess);
  ASSERT_EQ(cudaFreeAsync(memory, s.first), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(s.first), cudaSuccess);
  for (float x : values) EXPECT_TRUE(std::isnan(x));
}

TEST(EmulatedDevice, CopiesOfAWrongKindAreRefused) {
  Streams s;
  void* memory = nullptr;
  float host = 0;
  ASSERT_EQ(cudaMallocAsync(&memory, 4, s.first), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(memory, &host, 4, cudaMemcpyDeviceToHost, s.first),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(&host, memory, 4, cudaMemcpyDeviceToDevice, s.first),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemsetAsync(&host, 0, 4, s.first), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  ASSERT_EQ(cudaFreeAsync(memory, s.first), cudaSuccess);
}

TEST(EmulatedDevice, LaunchesThatNoDeviceTakesAreRefused) {
  Streams s;
  auto config = one_thread(s.first);
  config.gridDim = dim3(1, 65536);
  EXPECT_EQ(cudaLaunchKernelEx(&config, set_kernel, nullptr, 0.0F), cudaErrorInvalidConfiguration);
  config.gridDim = dim3(0);
  EXPECT_EQ(cudaLaunchKernelEx(&config, set_kernel, nullptr, 0.0F), cudaErrorInvalidConfiguration);
  config = one_thread(s.first);
  config.blockDim = dim3(1025);
  EXPECT_EQ(cudaLaunchKernelEx(&config, set_kernel, nullptr, 0.0F), cudaErrorInvalidConfiguration);
  config = one_thread(s.first);
  config.dynamicSmemBytes = 48 * 1024 + 1;
  EXPECT_EQ(cudaLaunchKernelEx(&config, set_kernel, nullptr, 0.0F), cudaErrorInvalidValue);
}

TEST(EmulatedDeviceDeathTest, CopiesBeyondABlockOrOfReleasedMemoryEndTheProcess) {
  Streams s;
  void* memory = nullptr;
  float host[4] = {};
  ASSERT_EQ(cudaMallocAsync(&memory, 8, s.first), cudaSuccess);
  EXPECT_DEATH(
      {
        cudaMemcpyAsync(memory, host, 12, cudaMemcpyHostToDevice, s.first);
        cudaStreamSynchronize(s.first);
      },
      "ends outside its block");
  EXPECT_DEATH(
      {
        cudaFreeAsync(memory, s.first);
        cudaMemsetAsync(memory, 0, 8, s.first);
        cudaStreamSynchronize(s.first);
      },
      "no memory of the device|was released");
  ASSERT_EQ(cudaFreeAsync(memory, s.first), cudaSuccess);
}

}  // namespace
}  // namespace ringbolt::emulated_cuda
