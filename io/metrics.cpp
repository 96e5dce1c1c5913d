#include "io/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "core/base/error.h"
#include "io/atomic_file.h"

namespace ringbolt {
namespace {

/// The lines of `text` up to step `last`; a torn line at the end is left out.
std::string lines_through(const std::string& text, int64_t last, const std::string& path) {
  std::string kept;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    const Json json = Json::parse(line, concat("line ", ++number, " of ", path));
    const Json* step = json.find("step");
    if (step == nullptr || step->as_integer() <= last) kept += line + '\n';
  }
  return kept;
}

}  // namespace

MetricsLog::MetricsLog(const std::string& path, std::optional<int64_t> resume_step) : path_(path) {
  std::string kept;
  if (resume_step && std::filesystem::exists(path))
    kept = lines_through(read_whole_file(path), *resume_step, path);
  write_file_atomically(path, kept);
  fd_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd_ < 0) throw system_error("write", path, errno);
}

MetricsLog::MetricsLog(MetricsLog&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

MetricsLog::~MetricsLog() {
  if (fd_ >= 0) ::close(fd_);
}

void MetricsLog::write(const Json& line) {
  const std::string text = line.dump() + '\n';
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(fd_, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw system_error("write", path_, errno);
    done += static_cast<size_t>(n);
  }
}

}  // namespace ringbolt
