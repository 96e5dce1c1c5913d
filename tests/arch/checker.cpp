#include "tests/arch/checker.h"

#include "core/base/error.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <sstream>

namespace ringbolt::arch {
namespace {

using Names = std::vector<std::string_view>;

/// A library's headers, by how the include begins, and the paths that may include them, by how they
/// begin.
struct Door {
  std::string_view library;
  Names headers;
  Names paths;
};

const std::vector<Door>& doors() {
  static const std::vector<Door> all = {
      {"CUDA",
       {"cuda", "cub/", "nvtx3/", "cooperative_groups"},
       {"core/cuda/", "parallel/nccl.", "tests/parallel/fake_cuda.",
        "tests/support/emulated_cuda/"}},
      {"CUDA", {"vector_types.h", "vector_functions.h"}, {"tests/support/emulated_cuda/"}},
      {"cuBLAS", {"cublas"}, {"core/cuda/cublas.", "tests/support/emulated_cuda/cublaslt."}},
      {"cuDNN", {"cudnn"}, {"core/cuda/cudnn."}},
      {"oneDNN", {"dnnl", "oneapi/dnnl"}, {"core/cpu/matmul."}},
      {"BLAS", {"cblas", "mkl"}, {"core/cpu/matmul."}},
      {"OpenMP", {"omp.h"}, {"core/cpu/parallel_for.h"}},
      {"MPI", {"mpi.h", "mpi-ext.h"}, {"parallel/mpi.cpp"}},
      {"NCCL",
       {"nccl"},
       {"parallel/nccl.", "tests/parallel/fake_nccl.", "tests/support/emulated_cuda/nccl."}},
      {"HDF5", {"hdf5", "H5"}, {"io/hdf5."}},
      {"SentencePiece", {"sentencepiece"}, {"io/tokenizer"}},
      {"nlohmann-json", {"nlohmann/"}, {"io/json."}},
      {"Boost.Context", {"boost/context"}, {"tests/support/emulated_cuda/fibre."}},
      {"Boost.Program_options", {"boost/program_options"}, {"apps/options."}},
      {"GoogleTest", {"gtest/", "gmock/"}, {"tests/"}},
      {"Google Benchmark", {"benchmark/"}, {"tests/"}},
  };
  return all;
}

constexpr std::array<std::string_view, 5> kFolders = {"core", "rope", "parallel", "io", "apps"};

bool begins_with_one_of(std::string_view text, const Names& beginnings) {
  return std::any_of(beginnings.begin(), beginnings.end(),
                     [&](std::string_view beginning) { return text.starts_with(beginning); });
}

bool ends_with_one_of(std::string_view text, const Names& endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return text.ends_with(ending); });
}

/// The folder's place in the order; nothing for tests and what is no folder of the order.
std::optional<size_t> place(std::string_view path) {
  const auto found = std::find(kFolders.begin(), kFolders.end(), path.substr(0, path.find('/')));
  if (found == kFolders.end()) return std::nullopt;
  return static_cast<size_t>(found - kFolders.begin());
}

/// Headers of the standard library have neither dot nor slash; these are the system's.
bool is_system_header(std::string_view header) {
  static const Names kSystem = {"sys/",        "linux/",  "math.h",   "unistd.h",  "fcntl.h",
                                "signal.h",    "poll.h",  "dirent.h", "termios.h", "cxxabi.h",
                                "immintrin.h", "dlfcn.h", "sched.h",  "sanitizer/"};
  return header.find_first_of("./") == std::string_view::npos ||
         begins_with_one_of(header, kSystem);
}

/// What is wrong with `path` including the library header <header>; empty if nothing.
std::string library_breach(std::string_view path, std::string_view header) {
  for (const Door& door : doors()) {
    if (!begins_with_one_of(header, door.headers)) continue;
    if (begins_with_one_of(path, door.paths)) return "";
    return concat("<", header, "> outside the door of ", door.library, ", ", door.paths.front());
  }
  if (is_system_header(header)) return "";
  return concat("<", header, "> of a library that has no door in tests/arch/checker.cpp");
}

/// What is wrong with `path` including the project's header "header"; empty if nothing.
std::string project_breach(std::string_view path, std::string_view header) {
  const std::string quoted = concat('"', header, '"');
  const bool in_tests = path.starts_with("tests/");
  if (header.starts_with("tests/")) return in_tests ? "" : quoted + " of the tests";
  const auto theirs = place(header);
  if (!theirs || header.find('/') == std::string_view::npos) {
    return concat(quoted, " is not written from the root (\"core/base/error.h\")");
  }
  const auto ours = place(path);
  if (in_tests || !ours) return "";
  if (*theirs > *ours)
    return concat(quoted, " looks right (core, rope, parallel, io, apps look left only)");
  if (path.starts_with("io/") && header.starts_with("parallel/") &&
      header != "parallel/communicator.h") {
    return concat(quoted, " (io sees parallel/communicator.h only)");
  }
  return "";
}

/// The breach of one line that may be an include or an OpenMP directive; empty if none.
std::string line_breach(std::string_view path, std::string_view line) {
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  if (!line.starts_with('#')) return "";
  line.remove_prefix(1);
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  // `omp simd` is a hint to the compiler, without the library.
  if (line.starts_with("pragma omp") && !line.starts_with("pragma omp simd") &&
      path != "core/cpu/parallel_for.h") {
    return "OpenMP outside its door, core/cpu/parallel_for.h";
  }
  if (!line.starts_with("include")) return "";
  const size_t open = line.find_first_of("<\"");
  if (open == std::string_view::npos) return "";
  const size_t close = line.find_first_of(">\"", open + 1);
  const std::string_view header = line.substr(open + 1, close - open - 1);
  return line[open] == '<' ? library_breach(path, header) : project_breach(path, header);
}

/// What is wrong with the file's own name; empty if nothing.
std::string name_breach(std::string_view path) {
  static const Names kExpectedByTools = {"CMakeLists.txt", "README.md", "Dockerfile"};
  const std::string_view name = path.substr(path.rfind('/') + 1);
  if (std::find(kExpectedByTools.begin(), kExpectedByTools.end(), name) != kExpectedByTools.end())
    return "";
  // find_package(CUDNN) looks for this very name.
  if (path.starts_with("cmake/Find") && name.ends_with(".cmake")) return "";
  const bool is_source = ends_with_one_of(name, {".h", ".cpp", ".cu", ".cuh", ".inl", ".py"});
  for (char c : name) {
    if (c >= 'A' && c <= 'Z') return "the file's name is not lower case";
    if (is_source && c == '-') return "the file's name is not words joined by underscores";
  }
  return "";
}

}  // namespace

std::vector<std::string> file_breaches(std::string_view path, std::string_view text) {
  std::vector<std::string> breaches;
  const auto add = [&](int64_t line, const std::string& what) {
    if (what.empty()) return;
    breaches.push_back(concat(path, ':', line, ": ", what));
  };
  add(1, name_breach(path));
  if (!ends_with_one_of(path, {".h", ".cpp", ".cu", ".cuh", ".inl", ".py", ".sh", ".cmake"}))
    return breaches;
  const bool is_cpp = ends_with_one_of(path, {".h", ".cpp", ".cu", ".cuh", ".inl"});

  int64_t count = 0;
  bool has_guard = false;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    ++count;
    if (is_cpp) add(count, line_breach(path, line));
    has_guard = has_guard || line == "#pragma once";
  }
  if (count > kMaxLines) add(count, "more than 500 lines: split it by concept");
  if (ends_with_one_of(path, {".h", ".cuh"})) {
    if (!has_guard) add(1, "a header without #pragma once");
    if (!text.starts_with("//")) add(1, "a header without a purpose comment at its top");
  }
  return breaches;
}

std::vector<std::string> top_level_breaches(const std::vector<std::string>& names) {
  static const Names kExpected = {
      "CMakeLists.txt", "core", "parallel", "rope", "io", "apps", "slurm", "tests", "README.md",
      "CMakePresets.json", "cmake", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md",
      // made by the presets, the quickstart, tests/gpu and people's own settings; ignored by git
      "build", "install", "quickstart", "gpu-results", "gpu-rehearsal", "ringbolt-gpu.tar.gz",
      "CMakeUserPresets.json", "compile_commands.json"};
  std::vector<std::string> breaches;
  for (const std::string& name : names) {
    if (name.starts_with('.') ||
        std::find(kExpected.begin(), kExpected.end(), name) != kExpected.end())
      continue;
    breaches.push_back(concat(name, ": not expected at the top level"));
  }
  return breaches;
}

}  // namespace ringbolt::arch
