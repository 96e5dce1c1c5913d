// metrics.jsonl: one JSON object a line, each with its "step".
//
// A line is on its way to the disk when write() returns, so a killed run keeps all but perhaps a
// torn last line. Resuming from step k drops what is beyond k: the lines of a resumed run are those
// of an uninterrupted one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "io/json.h"

namespace ringbolt {

class MetricsLog {
 public:
  /// Begins anew, or, with `resume_step`, keeps the lines up to that step. Throws: IoError where
  /// the file cannot be written, or where a line before the last is no JSON.
  explicit MetricsLog(const std::string& path, std::optional<int64_t> resume_step = std::nullopt);
  ~MetricsLog();
  MetricsLog(MetricsLog&& other) noexcept;
  MetricsLog& operator=(MetricsLog&&) = delete;

  /// Requires: an object. Throws: IoError (a full disk).
  void write(const Json& line);
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
};

}  // namespace ringbolt
