// The checker catches each kind of breach, in files made up for it, and lets what is right pass.
#include "tests/arch/checker.h"

#include <gtest/gtest.h>

namespace ringbolt::arch {
namespace {

constexpr std::string_view kHeader = "// Purpose.\n#pragma once\n";

/// Breaches of a file of one line.
size_t breaches(std::string_view path, std::string_view line) {
  return file_breaches(path,
                       std::string(path.ends_with(".h") ? kHeader : "") + std::string(line) + "\n")
      .size();
}

TEST(ArchitectureChecker, FindsIncludesThatLookRight) {
  EXPECT_EQ(breaches("core/model/a.cpp", "#include \"rope/table.h\""), 1U);
  EXPECT_EQ(breaches("rope/a.h", "#include \"parallel/communicator.h\""), 1U);
  EXPECT_EQ(breaches("parallel/a.cpp", "  #  include \"io/hdf5.h\""), 1U);
  EXPECT_EQ(breaches("io/a.cpp", "#include \"apps/options.h\""), 1U);
  EXPECT_EQ(breaches("io/a.cpp", "#include \"parallel/ring_attention.h\""), 1U);
  EXPECT_EQ(breaches("apps/a.cpp", "#include \"tests/support/compare.h\""), 1U);
  EXPECT_EQ(breaches("core/model/a.cpp", "#include \"config.h\""), 1U);
}

TEST(ArchitectureChecker, LetsIncludesThatLookLeftPass) {
  EXPECT_EQ(breaches("rope/a.cpp", "#include \"core/base/error.h\""), 0U);
  EXPECT_EQ(breaches("io/a.h", "#include \"parallel/communicator.h\""), 0U);
  EXPECT_EQ(breaches("apps/a.cpp", "#include \"parallel/ring_attention.h\""), 0U);
  EXPECT_EQ(breaches("tests/core/a.cpp", "#include \"apps/options.h\""), 0U);
  EXPECT_EQ(breaches("core/a.cpp", "// #include \"io/hdf5.h\" is not an include"), 0U);
  EXPECT_EQ(breaches("core/a.cpp", "#include <vector>"), 0U);
  EXPECT_EQ(breaches("core/a.cpp", "#include <sys/stat.h>"), 0U);
}

TEST(ArchitectureChecker, FindsLibrariesOutsideTheirDoors) {
  const std::vector<std::string> lines = {"#include <cuda_runtime.h>",
                                          "#include <cublasLt.h>",
                                          "#include <cudnn_frontend.h>",
                                          "#include <oneapi/dnnl/dnnl.hpp>",
                                          "#include <dnnl.hpp>",
                                          "#include <omp.h>",
                                          "#include <mpi.h>",
                                          "#include <nccl.h>",
                                          "#include <hdf5.h>",
                                          "#include <H5Cpp.h>",
                                          "#include <sentencepiece_processor.h>",
                                          "#include <nlohmann/json.hpp>",
                                          "#include <boost/program_options.hpp>",
                                          "#include <gtest/gtest.h>",
                                          "#include <benchmark/benchmark.h>",
                                          "#include <eigen3/Eigen/Core>",
                                          "#pragma omp parallel for"};
  for (const std::string& line : lines) EXPECT_EQ(breaches("core/model/a.cpp", line), 1U) << line;
}

TEST(ArchitectureChecker, LetsLibrariesThroughTheirDoors) {
  EXPECT_EQ(breaches("core/cuda/stream.cu", "#include <cuda_runtime.h>"), 0U);
  EXPECT_EQ(breaches("core/cuda/cublas.cpp", "#include <cublasLt.h>"), 0U);
  EXPECT_EQ(breaches("core/cpu/matmul.cpp", "#include <oneapi/dnnl/dnnl.hpp>"), 0U);
  EXPECT_EQ(breaches("core/cpu/parallel_for.h", "#pragma omp parallel for"), 0U);
  EXPECT_EQ(breaches("core/cpu/rowwise_kernels.cpp", "#pragma omp simd"), 0U);
  EXPECT_EQ(breaches("parallel/mpi.cpp", "#include <mpi.h>"), 0U);
  EXPECT_EQ(breaches("io/hdf5.cpp", "#include <hdf5.h>"), 0U);
  EXPECT_EQ(breaches("io/tokenizer_sentencepiece.cpp", "#include <sentencepiece_processor.h>"), 0U);
  EXPECT_EQ(breaches("io/json.h", "#include <nlohmann/json.hpp>"), 0U);
  EXPECT_EQ(breaches("apps/options.cpp", "#include <boost/program_options.hpp>"), 0U);
  EXPECT_EQ(breaches("tests/core/a_test.cpp", "#include <gtest/gtest.h>"), 0U);
}

TEST(ArchitectureChecker, FindsFilesThatAreTooLongOrBadlyNamed) {
  std::string text;
  for (int i = 0; i < kMaxLines; ++i) text += "int x;\n";
  EXPECT_EQ(file_breaches("core/a.cpp", text).size(), 0U);
  EXPECT_EQ(file_breaches("core/a.cpp", text + "int y;\n").size(), 1U);
  EXPECT_EQ(file_breaches("tests/a.py", text + "y\n").size(), 1U);
  EXPECT_EQ(breaches("core/RingAttention.cpp", ""), 1U);
  EXPECT_EQ(breaches("core/ring-attention.cpp", ""), 1U);
  EXPECT_EQ(breaches("core/CMakeLists.txt", ""), 0U);
}

TEST(ArchitectureChecker, FindsHeadersWithoutGuardOrPurpose) {
  EXPECT_EQ(file_breaches("core/a.h", "// Purpose.\n#pragma once\n").size(), 0U);
  EXPECT_EQ(file_breaches("core/a.h", "// Purpose.\n").size(), 1U);
  EXPECT_EQ(file_breaches("core/a.h", "#pragma once\n").size(), 1U);
}

TEST(ArchitectureChecker, FindsUnexpectedEntriesOfTheTopLevel) {
  EXPECT_EQ(top_level_breaches({"core", "CMakeLists.txt", ".gitignore", "build"}).size(), 0U);
  EXPECT_EQ(top_level_breaches({"core", "utils", "notes.txt"}).size(), 2U);
}

}  // namespace
}  // namespace ringbolt::arch
