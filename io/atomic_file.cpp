#include "io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

namespace ringbolt {
namespace {

std::string advice(int error_number) {
  switch (error_number) {
    case ENOENT:
      return "Check the path.";
    case EACCES:
    case EPERM:
    case EROFS:
      return "Check the permissions, or choose another folder.";
    case ENOSPC:
    case EDQUOT:
      return "Free some space, or choose another disk.";
    case EISDIR:
      return "Name a file, not a folder.";
    case ENOTDIR:
      return "A part of the path is a file; check it.";
    default:
      return "Check the disk and the path.";
  }
}

/// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(const std::string& path, int flags, const std::string& action)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    if (fd_ < 0) throw system_error(action, path, errno);
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int close() { return ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

}  // namespace

IoError system_error(const std::string& action, const std::string& path, int error_number) {
  return IoError(message(concat("cannot ", action, " ", path),
                         std::generic_category().message(error_number), advice(error_number)));
}

std::string parent_folder(const std::string& path) {
  std::filesystem::path p(path);
  if (!p.has_filename()) p = p.parent_path();  // "run/" is named run
  const std::string parent = p.parent_path().string();
  return parent.empty() ? "." : parent;
}

void sync_to_disk(const std::string& path) {
  const Descriptor file(path, O_RDONLY, "open");
  // EINVAL: the file system (or a special file) cannot flush; there is nothing to wait for.
  if (::fsync(file.get()) != 0 && errno != EINVAL) throw system_error("flush", path, errno);
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)), partial_(path_ + ".partial") {
  if (std::filesystem::is_directory(path_)) throw system_error("write", path_, EISDIR);
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      partial_(std::move(other.partial_)),
      pending_(std::exchange(other.pending_, false)) {}

AtomicFile::~AtomicFile() {
  if (!pending_) return;
  // Emptied first: HDF5 leaves a file open whose close failed on a full disk, and its space would
  // stay taken.
  [[maybe_unused]] const int emptied = ::truncate(partial_.c_str(), 0);
  ::unlink(partial_.c_str());
}

void AtomicFile::commit() {
  sync_to_disk(partial_);
  if (std::rename(partial_.c_str(), path_.c_str()) != 0)
    throw system_error("rename to", path_, errno);
  pending_ = false;
  sync_to_disk(parent_folder(path_));
}

void write_file_atomically(const std::string& path, std::string_view contents) {
  AtomicFile file(path);
  Descriptor out(file.partial_path(), O_WRONLY | O_CREAT | O_TRUNC, "write");
  while (!contents.empty()) {
    const ssize_t n = ::write(out.get(), contents.data(), contents.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw system_error("write", file.partial_path(), errno);
    contents.remove_prefix(static_cast<size_t>(n));
  }
  if (out.close() != 0) throw system_error("write", file.partial_path(), errno);
  file.commit();
}

std::string read_whole_file(const std::string& path) {
  const Descriptor in(path, O_RDONLY, "read");
  std::string contents;
  std::string block(size_t{1} << 16, '\0');
  for (;;) {
    const ssize_t n = ::read(in.get(), block.data(), block.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw system_error("read", path, errno);
    if (n == 0) return contents;
    contents.append(block, 0, static_cast<size_t>(n));
  }
}

}  // namespace ringbolt
