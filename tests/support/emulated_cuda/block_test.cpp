// What a block of the emulated device must do, and which misuse it must not let pass.
#include <cuda_runtime.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

namespace ringbolt::emulated_cuda {
namespace {

template <class Kernel>
void run(dim3 threads, const Kernel& kernel, uint64_t seed = 1) {
  const BlockFacts facts{{0, 0, 0}, threads, dim3(1), nullptr};
  run_block(facts, {[](const void* k) { (*static_cast<const Kernel*>(k))(); }, &kernel}, seed);
}

constexpr uint64_t kSeeds = 16;

TEST(EmulatedBlock, RunsEachThreadOnceWithItsIndices) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    std::vector<int> runs(4 * 6 * 2);
    run(
        dim3(4, 6, 2), [&] { ++runs[(threadIdx.z * 6 + threadIdx.y) * 4 + threadIdx.x]; }, seed);
    EXPECT_EQ(runs, std::vector<int>(4 * 6 * 2, 1));
  }
}

TEST(EmulatedBlock, BarriersOrderWritesAndReadsInEveryOrderOfThreads) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    std::vector<int> shared(256), sums(256);
    run(
        dim3(256),
        [&] {
          for (int round = 0; round < 3; ++round) {
            shared[threadIdx.x] = static_cast<int>(threadIdx.x) + round;
            __syncthreads();
            sums[threadIdx.x] += shared[255 - threadIdx.x];
            __syncthreads();
          }
        },
        seed);
    for (int i = 0; i < 256; ++i) EXPECT_EQ(sums[static_cast<size_t>(i)], 3 * (255 - i) + 3);
  }
}

TEST(EmulatedBlock, AMissingBarrierGivesAWrongResultForSomeSeed) {
  int wrong = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    std::vector<int> shared(64, -1), seen(64);
    run(
        dim3(64),
        [&] {
          shared[threadIdx.x] = static_cast<int>(threadIdx.x);
          seen[threadIdx.x] = shared[63 - threadIdx.x];  // nothing waits for the other thread
        },
        seed);
    wrong += std::count(seen.begin(), seen.end(), -1) > 0 ? 1 : 0;
  }
  EXPECT_GT(wrong, 0);
}

TEST(EmulatedBlock, ShufflesGiveTheValuesOfTheirLanes) {
  std::vector<double> up(64), down(64), across(64), one(64);
  std::vector<unsigned> votes(64);
  run(dim3(64), [&] {
    const unsigned t = threadIdx.x;
    across[t] = __shfl_xor_sync(0xffffffffU, t * 1.5, 16);
    one[t] = __shfl_sync(0xffffffffU, t * 1.5, 3, 8);
    up[t] = __shfl_up_sync(0xffffffffU, t * 1.5, 2);
    down[t] = __shfl_down_sync(0xffffffffU, t * 1.5, 2, 16);
    votes[t] = __ballot_sync(0xffffffffU, t % 3 == 0);
  });
  unsigned votes_of_first = 0;
  for (unsigned i = 0; i < 32; ++i) votes_of_first |= (i % 3 == 0 ? 1U : 0U) << i;
  for (unsigned t = 0; t < 64; ++t) {
    EXPECT_EQ(across[t], (t ^ 16) * 1.5);
    EXPECT_EQ(one[t], (t / 8 * 8 + 3) * 1.5);
    EXPECT_EQ(up[t], (t % 32 < 2 ? t : t - 2) * 1.5);
    EXPECT_EQ(down[t], (t % 16 > 13 ? t : t + 2) * 1.5);
    EXPECT_EQ(t < 32 ? votes[t] : votes_of_first, votes_of_first);
  }
}

using EmulatedBlockDeathTest = testing::Test;

TEST(EmulatedBlockDeathTest, ABarrierThatSomeThreadsDoNotReachEndsTheProcess) {
  EXPECT_DEATH(run(dim3(64),
                   [] {
                     if (threadIdx.x < 63) __syncthreads();
                   }),
               "emulated CUDA: a thread");
}

TEST(EmulatedBlockDeathTest, BarriersAtDifferentPlacesEndTheProcess) {
  const auto kernel = [] {
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  };
  EXPECT_DEATH(run(dim3(64), kernel), "at different places");
}

TEST(EmulatedBlockDeathTest, AShuffleWithALaneMissingEndsTheProcess) {
  EXPECT_DEATH(run(dim3(32),
                   [] {
                     if (threadIdx.x != 7) static_cast<void>(__shfl_xor_sync(0xffffffffU, 1, 1));
                   }),
               "emulated CUDA: a lane of the mask is not there|will not come");
  EXPECT_DEATH(run(dim3(16), [] { static_cast<void>(__shfl_xor_sync(0xffffffffU, 1, 1)); }),
               "a lane of the mask is not there");
}

TEST(EmulatedBlockDeathTest, AShuffleFromALaneOutsideItsMaskEndsTheProcess) {
  EXPECT_DEATH(run(dim3(32),
                   [] {
                     if (threadIdx.x < 16) static_cast<void>(__shfl_sync(0xffffU, 1, 20));
                   }),
               "not in the mask");
}

}  // namespace
}  // namespace ringbolt::emulated_cuda
