#include "apps/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string_view>

#include "core/base/error.h"
#include "core/base/quantity.h"

namespace ringbolt {
namespace {

constexpr int64_t kWidestBar = 30;
constexpr int64_t kNarrowestBar = 8;

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int64_t terminal_width() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

}  // namespace

ProgressOutput standard_progress_output() {
  const char* terminal = std::getenv("TERM");
  const bool can_rewrite =
      isatty(STDERR_FILENO) != 0 && terminal != nullptr && std::string_view(terminal) != "dumb";
  return {&std::cerr, can_rewrite ? ProgressMode::bar : ProgressMode::lines, terminal_width(),
          steady_seconds};
}

Progress::Progress(std::string label, int64_t total, std::string unit, ProgressOutput output,
                   int64_t start, ProgressUnit counts)
    : label_(std::move(label)),
      total_(total),
      unit_(std::move(unit)),
      output_(std::move(output)),
      start_(start),
      counts_(counts),
      done_(start),
      begun_(output_.clock()),
      now_(begun_) {
  if (output_.mode == ProgressMode::lines) drawn_at_ = begun_;
  if (total_ > 0) drawn_tenth_ = start_ * 10 / total_;
}

Progress::Progress(std::string label, int64_t total, std::string unit, int64_t start,
                   ProgressUnit counts)
    : Progress(std::move(label), total, std::move(unit), standard_progress_output(), start,
               counts) {}

Progress::~Progress() {
  if (bar_is_open_) *output_.stream << std::endl;
}

void Progress::update(int64_t done, Fields fields) {
  if (finished_ || output_.mode == ProgressMode::none) return;
  done_ = done;
  fields_ = std::move(fields);
  now_ = output_.clock();
  const double silence = now_ - drawn_at_;
  if (output_.mode == ProgressMode::bar) {
    if (silence >= output_.bar_seconds) draw(false);
    return;
  }
  if (total_ > 0 && done_ >= total_) return;  // finish() draws the last line
  const int64_t tenth = total_ > 0 ? done_ * 10 / total_ : 0;
  const bool tenth_is_due = tenth > drawn_tenth_ && silence >= output_.gap_seconds;
  if (tenth_is_due || silence >= output_.line_seconds) {
    drawn_tenth_ = tenth;
    draw(false);
  }
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  if (output_.mode == ProgressMode::none) return;
  now_ = output_.clock();
  draw(true);
}

void Progress::note(const std::string& text) {
  if (output_.mode == ProgressMode::none) return;
  erase_bar();
  *output_.stream << text << '\n';
  if (output_.mode == ProgressMode::bar && !finished_) draw(false);
  output_.stream->flush();
}

void Progress::erase_bar() {
  if (bar_is_open_) *output_.stream << "\r\x1b[K";
  bar_is_open_ = false;
}

void Progress::draw(bool last) {
  drawn_at_ = now_;
  const std::string text = line(last);
  if (output_.mode == ProgressMode::bar) {
    *output_.stream << '\r' << text << "\x1b[K";
    bar_is_open_ = !last;
    if (last) *output_.stream << '\n';
  } else {
    *output_.stream << text << '\n';
  }
  output_.stream->flush();
}

std::string Progress::counted(int64_t done) const {
  if (counts_ == ProgressUnit::bytes) {
    return total_ > 0 ? concat(format_bytes(done), " of ", format_bytes(total_))
                      : format_bytes(done);
  }
  return total_ > 0 ? concat(done, "/", total_, " ", unit_) : concat(done, " ", unit_);
}

std::string Progress::bar(const std::string& left, const std::string& right) const {
  // One column stays free: a full last column makes some terminals start a new line.
  const int64_t used = static_cast<int64_t>(left.size() + right.size()) + 4;
  const int64_t room = std::min(kWidestBar, output_.width - 1 - used);
  if (total_ <= 0 || room < kNarrowestBar) return "";
  const int64_t filled = std::clamp(done_ * room / total_, int64_t{0}, room);
  std::string text(static_cast<size_t>(room), ' ');
  std::fill_n(text.begin(), filled, '=');
  if (filled < room) text[static_cast<size_t>(filled)] = '>';
  return " [" + text + "]";
}

std::string Progress::line(bool last) const {
  const double elapsed = now_ - begun_;
  const double rate = elapsed > 0 ? static_cast<double>(done_ - start_) / elapsed : 0;
  std::string left = label_;
  if (total_ > 0) left += concat(" ", std::min<int64_t>(100, done_ * 100 / total_), "%");
  std::vector<std::string> columns{counted(done_)};
  if (rate > 0) {
    columns.push_back(counts_ == ProgressUnit::bytes
                          ? format_bytes(static_cast<int64_t>(rate)) + "/s"
                          : concat(format_rate(rate), " ", unit_, "/s"));
  }
  if (last) {
    columns.push_back("in " + format_duration(elapsed));
  } else if (total_ > 0 && rate > 0) {
    columns.push_back(
        format_duration(static_cast<double>(std::max<int64_t>(0, total_ - done_)) / rate) +
        " left");
  }
  for (const auto& [name, value] : fields_) columns.push_back(concat(name, " ", value));

  std::string right;
  for (const std::string& column : columns) right += "  " + column;
  if (output_.mode != ProgressMode::bar) return left + right;
  std::string text = left + bar(left, right) + right;
  const auto room = static_cast<size_t>(std::max<int64_t>(1, output_.width - 1));
  if (text.size() > room) text.resize(room);
  return text;
}

}  // namespace ringbolt
