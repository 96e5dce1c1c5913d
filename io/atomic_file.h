// Files that are there whole or not at all.
//
// Everything is written beside its destination as "<path>.partial", flushed to disk, renamed, and
// the folder flushed: a process killed at any moment, or a full disk, leaves the earlier file as it
// was.
#pragma once

#include <string>
#include <string_view>

#include "core/base/error.h"

namespace ringbolt {

/// A file being written. Until `commit` returns, only partial_path() exists; the destructor removes
/// it.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;

  const std::string& path() const { return path_; }
  /// Where the contents go meanwhile.
  const std::string& partial_path() const { return partial_; }
  /// Flushes the partial file, gives it its name and flushes the folder. Requires: the writer has
  /// closed it.
  void commit();

 private:
  std::string path_;
  std::string partial_;
  bool pending_ = true;
};

/// Replaces `path` by `contents`. Throws: IoError.
void write_file_atomically(const std::string& path, std::string_view contents);

/// The whole file. Throws: IoError where it is missing, a folder or unreadable.
std::string read_whole_file(const std::string& path);

/// Flushes a file or folder to disk.
void sync_to_disk(const std::string& path);
/// The folder that holds `path` ("." for a bare name).
std::string parent_folder(const std::string& path);

/// "cannot <action> <path> (<the system's reason>). <what to try>." for an errno value.
IoError system_error(const std::string& action, const std::string& path, int error_number);

}  // namespace ringbolt
