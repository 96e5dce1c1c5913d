// This source tree keeps the rules of tests/arch/checker.h.
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "tests/arch/checker.h"

namespace ringbolt::arch {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = RINGBOLT_SOURCE_DIR;

std::string contents(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return std::move(text).str();
}

TEST(SourceTree, KeepsItsFoldersDoorsSizesAndNames) {
  int files = 0;
  int sources = 0;
  for (const char* folder : {"core", "rope", "parallel", "io", "apps", "slurm", "tests", "cmake"}) {
    if (!fs::exists(kRoot / folder)) continue;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      if (!entry.is_regular_file()) continue;
      const std::string path = fs::relative(entry.path(), kRoot).generic_string();
      if (path.find("__pycache__") != std::string::npos) continue;
      ++files;
      if (path.ends_with(".cpp") || path.ends_with(".h")) ++sources;
      for (const std::string& breach : file_breaches(path, contents(entry.path())))
        ADD_FAILURE() << breach;
    }
  }
  RecordProperty("files_checked", files);
  EXPECT_GT(sources, 40) << "of " << files << " files: is " << kRoot << " the source tree?";
}

TEST(SourceTree, HoldsNothingUnexpectedAtTheTop) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(kRoot))
    names.push_back(entry.path().filename());
  EXPECT_GT(names.size(), 8U);
  std::istringstream ignored(contents(kRoot / ".gitignore"));  // what commands leave there
  for (std::string line; std::getline(ignored, line);) {
    if (!line.starts_with('/')) continue;
    line.erase(0, 1);
    if (line.ends_with('/')) line.pop_back();
    names.push_back(line);
  }
  for (const std::string& breach : top_level_breaches(names)) ADD_FAILURE() << breach;
}

}  // namespace
}  // namespace ringbolt::arch
