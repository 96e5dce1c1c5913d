#include "apps/text_input.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "core/base/error.h"

namespace ringbolt {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr const char* kStandardInput = "-";

struct CloseFile {
  void operator()(std::FILE* file) const {
    if (file != stdin) std::fclose(file);
  }
};
using FileHandle = std::unique_ptr<std::FILE, CloseFile>;

IoError cannot_read(const std::string& path) {
  return IoError(message(concat("cannot read ", path), std::strerror(errno), "Check the path and its permissions."));
}

FileHandle open_text(const std::string& path) {
  if (path == kStandardInput) return FileHandle(stdin);
  FileHandle file(std::fopen(path.c_str(), "rb"));
  if (!file) throw cannot_read(path);
  return file;
}

/// Cuts the stream of one file into documents, and documents into pieces.
class Splitter {
 public:
  Splitter(const TextInputOptions& options, const std::function<void(const TextPiece&)>& take)
      : options_(options), take_(take) {}

  void push(std::string_view block) {
    waiting_ += block;
    if (waiting_.size() < kByteOrderMark.size()) return;
    drop_mark();
    take_documents();
    if (options_.may_cut) take_cut();
  }

  void finish() {
    drop_mark();
    take_documents();
    end_document(waiting_);
    waiting_.clear();
  }

 private:
  void drop_mark() {
    if (!at_file_start_) return;
    if (waiting_.starts_with(kByteOrderMark)) waiting_.erase(0, kByteOrderMark.size());
    at_file_start_ = false;
  }

  void take_documents() {
    if (options_.separator.empty()) return;
    size_t begin = 0;
    for (size_t at = 0; (at = waiting_.find(options_.separator, begin)) != std::string::npos;) {
      end_document(std::string_view(waiting_).substr(begin, at - begin));
      begin = at + options_.separator.size();
    }
    waiting_.erase(0, begin);
  }

  /// Hands on everything before the last line feed that follows printable ASCII. What could be the beginning of a
  /// separator stays.
  void take_cut() {
    size_t end = waiting_.size() - std::min(waiting_.size(), options_.separator.size());
    for (; end > 1; --end) {
      const char before = waiting_[end - 1];
      if (end < waiting_.size() && waiting_[end] == '\n' && before > ' ' && before < 0x7f) break;
    }
    if (end <= 1) return;
    give(std::string_view(waiting_).substr(0, end), false);
    waiting_.erase(0, end);
  }

  void end_document(std::string_view text) {
    if (inside_document_ || !text.empty()) give(text, true);
  }

  void give(std::string_view text, bool ends) {
    take_({text, !inside_document_, ends});
    inside_document_ = !ends;
  }

  const TextInputOptions& options_;
  const std::function<void(const TextPiece&)>& take_;
  std::string waiting_;
  bool at_file_start_ = true;
  bool inside_document_ = false;
};

/// `text` without the beginning of a character at its end, whose rest was cut off.
std::string_view whole_characters(std::string_view text) {
  size_t following = 0;
  while (following < 3 && following < text.size() &&
         (static_cast<unsigned char>(text[text.size() - 1 - following]) & 0xC0U) == 0x80U) {
    ++following;
  }
  if (following == text.size()) return text;
  const auto lead = static_cast<unsigned char>(text[text.size() - 1 - following]);
  const size_t wanted = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
  return following < wanted ? text.substr(0, text.size() - 1 - following) : text;
}

}  // namespace

TextInput::TextInput(TextInputOptions options) : options_(std::move(options)) {
  for (const std::string& path : options_.paths) {
    if (path != kStandardInput && fs::is_directory(path)) {
      add_folder(path);
      continue;
    }
    errno = ENOENT;
    if (path != kStandardInput && !fs::exists(path)) throw cannot_read(path);
    files_.push_back({path, false});
  }
  measure();
}

void TextInput::measure() {
  bool size_is_known = true;
  for (const File& file : files_) {
    std::error_code unknown;  // a pipe has no size
    const auto bytes = file.path == kStandardInput ? 0 : fs::file_size(file.path, unknown);
    if (unknown || file.path == kStandardInput) size_is_known = false;
    if (!unknown) total_bytes_ += static_cast<int64_t>(bytes);
  }
  if (options_.max_bytes > 0) total_bytes_ = std::min(total_bytes_, options_.max_bytes);
  if (!size_is_known) total_bytes_ = 0;
}

void TextInput::add_folder(const std::string& folder) {
  std::vector<std::string> found;
  const auto wanted = [&](const std::string& path) {
    const auto ends = [&](const std::string& suffix) { return path.ends_with(suffix); };
    return options_.suffixes.empty() || std::any_of(options_.suffixes.begin(), options_.suffixes.end(), ends);
  };
  const auto skip = fs::directory_options::skip_permission_denied;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder, skip)) {
    const std::string path = entry.path().string();
    if (entry.is_regular_file() && wanted(path)) found.push_back(path);
  }
  if (found.empty()) {
    throw UsageError(message(concat("the folder ", folder, " has no files to read"),
                             options_.suffixes.empty() ? "it is empty" : "no name ends as --suffix asks",
                             "Name another folder, or files."));
  }
  std::sort(found.begin(), found.end());
  for (std::string& path : found) files_.push_back({std::move(path), true});
}

void TextInput::read_file(const File& named, const std::function<void(const TextPiece&)>& take) {
  const FileHandle file = open_text(named.path);
  Splitter splitter(options_, take);
  std::string block(static_cast<size_t>(options_.block_bytes), '\0');
  for (bool is_first = true; !at_limit(); is_first = false) {
    errno = 0;
    const size_t count = std::fread(block.data(), 1, block.size(), file.get());
    if (std::ferror(file.get()) != 0) throw cannot_read(named.path);
    if (count == 0) break;
    std::string_view text(block.data(), count);
    if (is_first && named.may_be_binary && text.find('\0') != std::string_view::npos) {
      ++skipped_binary_files_;
      return;
    }
    const int64_t left = options_.max_bytes - bytes_read_;
    if (options_.max_bytes > 0 && static_cast<int64_t>(count) > left) {
      text = whole_characters(text.substr(0, static_cast<size_t>(left)));
    }
    bytes_read_ += static_cast<int64_t>(count);
    splitter.push(text);
  }
  splitter.finish();
}

void TextInput::for_each(const std::function<void(const TextPiece&)>& take) {
  for (const File& file : files_) {
    if (at_limit()) return;
    read_file(file, take);
  }
}

}  // namespace ringbolt
