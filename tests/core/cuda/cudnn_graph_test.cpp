// Every cuDNN graph that the backend uses, made for GPUs that are not here: an H200, an A100 and a
// B200, described as cuDNN describes devices. A graph passes when its best plan is of the engine
// that the device should get, and the plan is made, or wants for nothing but the driver.
// (Acceptance alone proves little: some accepted graphs do not compile.)
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "core/base/error.h"
#include "core/cuda/attention_plan.h"
#include "core/cuda/cudnn.h"

namespace ringbolt::cuda {
namespace {

using Ending = GraphReport::Ending;

struct Device {
  std::string name;
  int arch;
  int multiprocessors;
  int shared_bytes;  ///< of a block that opts in
  int l2_bytes;
  std::string forward;       ///< engine of a masked forward: the device's fast one
  std::string full_forward;  ///< of one without a mask
  std::string decode;        ///< of one query
  std::string backward;
};

/// Figures from public specifications. Engines as found with cuDNN 9.19.
const std::vector<Device>& devices() {
  static const std::vector<Device> all = {
      {"H200", 90, 132, 232448, 52428800, "eng2", "eng9", "eng8", "eng6"},
      {"A100", 80, 108, 166912, 41943040, "eng1", "eng8", "eng8", "eng7"},
      {"B200", 100, 148, 232448, 132644864, "eng3", "eng10", "eng10", "eng5"},
  };
  return all;
}

DeviceDescription description(const Device& d) {
  const auto field = [](const char* key, int64_t value) {
    return concat("\"", key, "\":", value, ",");
  };
  std::string json = "{";
  json += field("version", 1) + field("deviceVer", d.arch * 10) + field("driverVer", 13000) +
          field("cudaDeviceId", 0);
  json += concat("\"deviceName\":\"NVIDIA ", d.name, "\",");
  json +=
      field("totalGlobalMem", int64_t{80} << 30) + field("multiProcessorCount", d.multiprocessors);
  json += field("smClockRateKHz", 1700000) + field("memClockRateKHz", 2600000) +
          field("l2CacheSize", d.l2_bytes);
  json += field("warpSize", 32) + field("maxSharedMemoryPerBlock", 49152);
  json += field("maxSharedMemoryPerBlockOptin", d.shared_bytes) +
          field("reservedSharedMemoryPerBlock", 1024);
  json +=
      field("maxRegistersPerSM", 65536) + field("regsPerBlock", 65536) + field("pciDeviceId", 1);
  json += field("maxCtasPerSM", 32) + field("maxThreadsPerBlock", 1024) +
          field("maxThreadsPerSM", 2048);
  json += field("isTccDriver", 0) + field("supportCoopLaunch", 1);
  json += "\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64]}";
  return {d.arch, json};
}

/// The graph as the backend makes it for q (…, H, D) and fused k, v (…, 2K, D).
AttentionGraph graph(Direction direction, int64_t queries, int64_t keys, int64_t heads,
                     int64_t kv_heads, int64_t d, bool causal, bool padded = false,
                     int64_t batch = 1) {
  AttentionGraph g;
  g.direction = direction;
  g.batch = batch;
  g.queries = queries;
  g.keys = keys;
  g.heads = heads;
  g.kv_heads = kv_heads;
  g.head_dim = d;
  g.causal = causal;
  g.padded = padded;
  g.scale = 0.125F;
  const int64_t kv_row = padded ? kv_heads * d : 2 * kv_heads * d;
  g.q = {heads * d, queries * heads * d};
  g.k = {kv_row, keys * kv_row};
  g.v = g.k;
  (direction == Direction::forward ? g.out : g.dout) = g.q;
  return g;
}

std::string engine_of(const std::string& plan) { return plan.substr(0, plan.find('_')); }

class CudnnGraphs : public testing::TestWithParam<Device> {
 protected:
  void expect_good(const AttentionGraph& g, const std::string& engine) {
    const GraphReport report = examine_graph(g, description(GetParam()));
    if (report.ending == Ending::no_library) {
      GTEST_SKIP() << "no libcuda, nor a stand-in for it: nothing can be learnt (" << report.reason
                   << ")";
    }
    EXPECT_TRUE(report.ending == Ending::built || report.ending == Ending::no_driver)
        << what(g) << ": " << report.reason;
    EXPECT_EQ(engine_of(report.engine), engine) << what(g);
    ++examined_;
  }
  static std::string what(const AttentionGraph& g) {
    return concat(g.direction == Direction::forward ? "forward " : "backward ", g.batch, " x ",
                  g.queries, " x ", g.keys, g.causal ? " causal" : "", g.padded ? " padded" : "",
                  " ", g.heads, ":", g.kv_heads, " of ", g.head_dim);
  }
  int examined_ = 0;
};

TEST_P(CudnnGraphs, ForwardOfEveryHeadDimensionAndMask) {
  for (const int64_t d : {16, 48, 64, 80, 96, 128, 256}) {
    expect_good(graph(Direction::forward, 2048, 2048, 32, 32, d, true), GetParam().forward);
    if (IsSkipped()) return;
  }
  for (const int64_t d : {64, 128}) {
    expect_good(graph(Direction::forward, 2048, 2048, 32, 8, d, true), GetParam().forward);
    expect_good(graph(Direction::forward, 1024, 2048, 32, 8, d, false), GetParam().full_forward);
  }
  EXPECT_EQ(examined_, 11);
}

TEST_P(CudnnGraphs, ForwardOfPaddedAndBatchedPieces) {
  expect_good(graph(Direction::forward, 1280, 1280, 32, 8, 128, true, true), GetParam().forward);
  if (IsSkipped()) return;
  expect_good(graph(Direction::forward, 640, 1280, 32, 8, 128, false, true),
              GetParam().full_forward);
  expect_good(graph(Direction::forward, 256, 256, 12, 12, 64, true, false, 8), GetParam().forward);
  EXPECT_EQ(examined_, 3);
}

TEST_P(CudnnGraphs, DecodingOverLongCaches) {
  for (const int64_t keys : {4096, 131072, 1048576}) {
    expect_good(graph(Direction::forward, 1, keys, 32, 8, 128, false), GetParam().decode);
    if (IsSkipped()) return;
  }
  EXPECT_EQ(examined_, 3);
}

TEST_P(CudnnGraphs, BackwardOfEveryHeadDimensionAndMask) {
  for (const int64_t d : {16, 48, 64, 80, 96, 128, 256}) {
    const AttentionTraits traits{DType::bf16, d, GetParam().arch, true};
    const AttentionSlice square{0, 2048, 0, 2048, AttentionSlice::Mask::causal, 0};
    if (attention_work({&square, 1}, Direction::backward, traits)[0].engine == Engine::own)
      continue;
    expect_good(graph(Direction::backward, 2048, 2048, 32, 32, d, true), GetParam().backward);
    if (IsSkipped()) return;
  }
  for (const int64_t d : {64, 128}) {
    expect_good(graph(Direction::backward, 2048, 2048, 32, 8, d, true), GetParam().backward);
    expect_good(graph(Direction::backward, 1024, 2048, 32, 8, d, false), GetParam().backward);
  }
  EXPECT_EQ(examined_, GetParam().arch == 90 ? 11 : 10);
}

TEST_P(CudnnGraphs, BackwardOfPaddedAndBatchedPieces) {
  expect_good(graph(Direction::backward, 1280, 1280, 32, 8, 128, true, true), GetParam().backward);
  if (IsSkipped()) return;
  expect_good(graph(Direction::backward, 640, 1280, 32, 8, 128, false, true), GetParam().backward);
  expect_good(graph(Direction::backward, 256, 256, 12, 12, 64, true, false, 8),
              GetParam().backward);
  EXPECT_EQ(examined_, 3);
}

TEST_P(CudnnGraphs, OfSevenAndThirteenBillionParametersAtLength) {
  for (const int64_t heads : {32, 40}) {
    expect_good(graph(Direction::forward, 16384, 16384, heads, heads, 128, true),
                GetParam().forward);
    if (IsSkipped()) return;
    expect_good(graph(Direction::backward, 16384, 16384, heads, heads, 128, true),
                GetParam().backward);
    expect_good(graph(Direction::forward, 131072, 131072, heads, heads, 128, false),
                GetParam().full_forward);
  }
  EXPECT_EQ(examined_, 6);
}

/// The same graph in fp8.
AttentionGraph in_fp8(AttentionGraph g, DType out) {
  g.dtype = DType::e4m3;
  g.out_dtype = out;
  return g;
}

/// What the plan gives cuDNN on this device is what cuDNN takes; what it does not, cuDNN refuses.
TEST_P(CudnnGraphs, Fp8ForwardOfEveryHeadDimensionAndMask) {
  const Device& device = GetParam();
  for (const E4m3Output output : {E4m3Output::rounded, E4m3Output::wide}) {
    const DType out = output == E4m3Output::rounded ? DType::e4m3 : DType::bf16;
    if (!why_no_e4m3_attention(device.arch, output).empty()) {
      const AttentionGraph g = graph(Direction::forward, 2048, 2048, 32, 32, 128, true);
      const GraphReport report = examine_graph(in_fp8(g, out), description(device));
      if (report.ending == Ending::no_library) GTEST_SKIP() << report.reason;
      EXPECT_EQ(report.ending, Ending::refused) << report.reason;
      continue;
    }
    int taken = 0;
    for (const int64_t d : {16, 32, 64, 80, 96, 128, 192, 256}) {
      const AttentionTraits traits{DType::e4m3, d, device.arch, true};
      const AttentionSlice square{0, 2048, 0, 2048, AttentionSlice::Mask::causal, 0};
      if (attention_work({&square, 1}, Direction::forward, traits)[0].engine == Engine::own)
        continue;
      ++taken;
      expect_good(in_fp8(graph(Direction::forward, 2048, 2048, 32, 32, d, true), out),
                  device.forward);
      if (IsSkipped()) return;
    }
    EXPECT_EQ(taken, device.arch == 90 ? 8 : 6);
    for (const int64_t d : {64, 128}) {
      expect_good(in_fp8(graph(Direction::forward, 2048, 2048, 32, 8, d, true), out),
                  device.forward);
      expect_good(in_fp8(graph(Direction::forward, 1024, 2048, 32, 8, d, false), out),
                  device.forward);
    }
    expect_good(in_fp8(graph(Direction::forward, 1280, 1280, 32, 8, 128, true, true), out),
                device.forward);
    expect_good(in_fp8(graph(Direction::forward, 640, 1280, 32, 8, 128, false, true), out),
                device.forward);
    expect_good(in_fp8(graph(Direction::forward, 256, 256, 12, 12, 64, true, false, 8), out),
                device.forward);
    expect_good(in_fp8(graph(Direction::forward, 1048576, 1048576, 32, 32, 128, true), out),
                device.forward);
  }
}

TEST_P(CudnnGraphs, Fp8DecodingIsGivenOnlyToDevicesThatHaveIt) {
  const Device& device = GetParam();
  if (device.arch < 90) return;
  const AttentionSlice one{0, 1, 0, 131072, AttentionSlice::Mask::full};
  const AttentionTraits traits{DType::e4m3, 128, device.arch, true};
  const bool given =
      attention_work({&one, 1}, Direction::forward, traits)[0].engine == Engine::cudnn;
  const AttentionGraph g = graph(Direction::forward, 1, 131072, 32, 8, 128, false);
  const GraphReport report =
      examine_graph(in_fp8(g, device.arch == 90 ? DType::e4m3 : DType::bf16), description(device));
  if (report.ending == Ending::no_library) GTEST_SKIP() << report.reason;
  EXPECT_EQ(given, report.ending != Ending::refused) << report.reason;
}

TEST_P(CudnnGraphs, ThatCannotBeAreRefusedAndSaySo) {
  const GraphReport report =
      examine_graph(graph(Direction::backward, 256, 256, 4, 4, 63, true), description(GetParam()));
  EXPECT_EQ(report.ending, Ending::refused);
  EXPECT_FALSE(report.reason.empty());
}

INSTANTIATE_TEST_SUITE_P(Devices, CudnnGraphs, testing::ValuesIn(devices()),
                         [](const testing::TestParamInfo<Device>& which) {
                           return which.param.name;
                         });

}  // namespace
}  // namespace ringbolt::cuda
