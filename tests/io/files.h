// What the tests of io share: a folder of their own, broken copies of files, and the text of an
// error.
#pragma once

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/base/error.h"
#include "io/atomic_file.h"

namespace ringbolt::test {

/// A folder that is there for one test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "ringbolt-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Without waiting for the disk, as the library does.
inline void overwrite(const std::string& path, const std::string& contents) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << contents;
}

/// The bytes of `path` with one bit of byte `at` turned.
inline void flip_bit(const std::string& path, size_t at) {
  std::string contents = read_whole_file(path);
  contents.at(at) = static_cast<char>(contents.at(at) ^ 0x10);
  overwrite(path, contents);
}

/// A disk of so many KiB; path() is empty where this process may not mount one.
class SmallDisk {
 public:
  explicit SmallDisk(int kib) {
    const std::string options = "size=" + std::to_string(kib) + "k";
    mounted_ = ::mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(folder_.path().c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }
  const std::string& path() const { return folder_.path(); }
  std::string operator/(const std::string& name) const { return folder_ / name; }

 private:
  TemporaryFolder folder_;
  bool mounted_ = false;
};

/// What `action` throws as an `E`; "" and a failed test where it does not throw.
template <class E = IoError, class Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another kind of exception: " << error.what();
    return "";
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

/// The grammar of every message: one line, "problem (why). What to try."
inline void expect_message(const std::string& text, std::initializer_list<std::string> parts) {
  EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  EXPECT_NE(text.find(" ("), std::string::npos) << text;
  EXPECT_NE(text.find("). "), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with('.')) << text;
  for (const std::string& part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << "no '" << part << "' in: " << text;
}

}  // namespace ringbolt::test
