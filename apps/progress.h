// How far along a long computation is, on standard error.
//
// A terminal gets one bar that rewrites itself; anything else (a log file, a pipe) gets a plain
// line every ten percent or every half minute, without control characters. Both show the rate and
// the time left.
//
//     Progress progress("train", steps, "steps");
//     for (…) progress.update(step, {{"loss", "3.21"}});
//     progress.finish();
#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <utility>
#include <vector>

namespace ringbolt {

enum class ProgressMode { bar, lines, none };
/// How a progress display counts: bytes as 3.2 MiB, everything else as it is.
enum class ProgressUnit { things, bytes };

/// Where it goes and how; tests bring their own stream, clock and width.
struct ProgressOutput {
  std::ostream* stream;
  ProgressMode mode;
  int64_t width;                  ///< columns of the terminal
  std::function<double()> clock;  ///< seconds from any origin, not going back
  double line_seconds = 30;       ///< lines: the longest silence
  double gap_seconds = 1;         ///< lines: the shortest
  double bar_seconds = 0.1;       ///< bar: redrawn at most this often
};

/// Standard error: a bar where it is a terminal that can rewrite a line, lines elsewhere.
ProgressOutput standard_progress_output();

class Progress {
 public:
  /// Extra columns: ("loss", "3.214").
  using Fields = std::vector<std::pair<std::string, std::string>>;

  /// `total` 0: not known beforehand. `start` is what was done before (a resumed run); the rate
  /// leaves it out.
  Progress(std::string label, int64_t total, std::string unit, ProgressOutput output,
           int64_t start = 0, ProgressUnit counts = ProgressUnit::things);
  Progress(std::string label, int64_t total, std::string unit, int64_t start = 0,
           ProgressUnit counts = ProgressUnit::things);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Leaves an unfinished bar on a line of its own, so that an error message starts a new one.
  ~Progress();

  /// Cheap enough for every step: draws only when it is time to.
  void update(int64_t done, Fields fields = {});
  /// The last state, always drawn, with the time that it took. Further updates are ignored.
  void finish();
  /// A whole line of text, above the bar.
  void note(const std::string& line);

 private:
  std::string line(bool last) const;
  std::string counted(int64_t done) const;
  std::string bar(const std::string& left, const std::string& right) const;
  void draw(bool last);
  void erase_bar();

  std::string label_;
  int64_t total_;
  std::string unit_;
  ProgressOutput output_;
  int64_t start_;
  ProgressUnit counts_;
  int64_t done_;
  Fields fields_;
  double begun_;
  double now_;
  double drawn_at_ = -1e300;
  int64_t drawn_tenth_ = 0;
  bool bar_is_open_ = false;
  bool finished_ = false;
};

}  // namespace ringbolt
