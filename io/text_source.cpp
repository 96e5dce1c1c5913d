#include "io/text_source.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "core/base/error.h"
#include "io/atomic_file.h"

namespace ringbolt {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr size_t kProbeBytes = 8192;
constexpr size_t kReadBytes = size_t{1} << 20;

/// Reads until `wanted` bytes were added to `text` or the input ends; false at its end.
bool read_more(int fd, const std::string& path, size_t wanted, std::string& text) {
  while (wanted > 0) {
    const size_t before = text.size();
    const size_t block = std::min(wanted, kReadBytes);
    text.resize(before + block);
    const ssize_t n = ::read(fd, text.data() + before, block);
    text.resize(before + static_cast<size_t>(std::max<ssize_t>(n, 0)));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw system_error("read", path, errno);
    if (n == 0) return false;
    wanted -= static_cast<size_t>(n);
  }
  return true;
}

int open_for_reading(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw system_error("read", path, errno);
  return fd;
}

/// Text has no zero bytes.
bool is_binary(const std::string& path) {
  const int fd = open_for_reading(path);
  std::string head;
  try {
    read_more(fd, path, kProbeBytes, head);
  } catch (...) {
    ::close(fd);
    throw;
  }
  ::close(fd);
  return head.find('\0') != std::string::npos;
}

void add_folder(const std::string& folder, TextInputs& inputs) {
  std::vector<fs::path> paths;
  fs::recursive_directory_iterator walk(folder);
  for (const fs::directory_entry& entry : walk) {
    if (entry.path().filename().string().starts_with('.')) {
      if (entry.is_directory()) walk.disable_recursion_pending();
      continue;
    }
    if (!entry.is_directory()) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  for (const fs::path& path : paths) {
    const std::string name = path.string();
    std::error_code error;
    if (!fs::is_regular_file(path, error)) {
      inputs.skipped.push_back(name + ": not a regular file");
    } else if (fs::file_size(path) == 0) {
      inputs.skipped.push_back(name + ": empty");
    } else if (is_binary(name)) {
      inputs.skipped.push_back(name + ": not text (it has zero bytes)");
    } else {
      inputs.files.push_back({name, static_cast<int64_t>(fs::file_size(path))});
    }
  }
}

bool is_printable_ascii(char c) { return c > ' ' && c < '\x7F'; }

/// Where to cut a text that goes on: before the last "\n" of a line that ends in a printable
/// character (and perhaps "\r", or spaces); else before the last "\n"; else before the last
/// character that begins. "\r" stays with the line, as LLaMA's vocabulary has pieces like ";\r"; a
/// line that ends in another character is avoided, as unknown ones in a row are one id.
size_t cut(std::string_view text) {
  const size_t last = text.rfind('\n');
  for (size_t at = last; at != std::string_view::npos && at > 0; at = text.rfind('\n', at - 1)) {
    const size_t end = text.find_last_not_of(" \t\r", at - 1);
    if (end != std::string_view::npos && is_printable_ascii(text[end])) return at;
  }
  if (last != std::string_view::npos && last > 0) return last;
  size_t at = text.size();
  while (at > 1 && (static_cast<unsigned char>(text[at - 1]) & 0xC0U) == 0x80U) --at;
  return at > 1 ? at - 1 : text.size();
}

}  // namespace

TextInputs find_text_inputs(std::span<const std::string> paths) {
  TextInputs inputs;
  for (const std::string& path : paths) {
    if (path == "-") {
      inputs.files.push_back({path, -1});
      continue;
    }
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) throw system_error("read", path, ENOENT);
    if (fs::is_directory(status)) {
      add_folder(path, inputs);
      continue;
    }
    // Pipes can be read only once: they are not looked into.
    const bool regular = fs::is_regular_file(status);
    if (regular && is_binary(path)) {
      throw IoError(message(concat("cannot read ", path, " as text"), "it has zero bytes",
                            "Name text files in UTF-8."));
    }
    inputs.files.push_back({path, regular ? static_cast<int64_t>(fs::file_size(path)) : -1});
  }
  if (inputs.files.empty()) {
    throw IoError(message("there is no text to read",
                          inputs.skipped.empty() ? "no input was named, or the folders are empty"
                                                 : concat("skipped ", inputs.skipped.front()),
                          "Name text files, folders, or - for standard input."));
  }
  return inputs;
}

struct TextReader::State {
  std::string path;
  int fd = -1;
  size_t piece_bytes = 0;
  std::string rest;  // read and not yet given
  bool at_end = false;
  bool at_start = true;
  int64_t bytes = 0;
};

TextReader::TextReader(const TextInput& input, int64_t piece_bytes)
    : state_(std::make_unique<State>()) {
  state_->path = input.path == "-" ? "standard input" : input.path;
  state_->fd = input.path == "-" ? STDIN_FILENO : open_for_reading(input.path);
  state_->piece_bytes = static_cast<size_t>(std::max<int64_t>(piece_bytes, 8));
}

TextReader::~TextReader() {
  if (state_ && state_->fd > STDERR_FILENO) ::close(state_->fd);
}

TextReader::TextReader(TextReader&&) noexcept = default;

int64_t TextReader::bytes_read() const { return state_->bytes; }

bool TextReader::next(std::string& piece) {
  State& s = *state_;
  // One byte more than a piece tells whether the text goes on.
  if (!s.at_end && s.rest.size() <= s.piece_bytes) {
    const size_t before = s.rest.size();
    s.at_end = !read_more(s.fd, s.path, s.piece_bytes + 1 - before, s.rest);
    s.bytes += static_cast<int64_t>(s.rest.size() - before);
  }
  if (std::exchange(s.at_start, false) && s.rest.starts_with(kByteOrderMark))
    s.rest.erase(0, kByteOrderMark.size());
  if (s.rest.empty()) return false;
  const size_t length = is_last_piece() ? s.rest.size() : cut(s.rest);
  std::string after = s.rest.substr(length);
  s.rest.resize(length);
  piece = std::exchange(s.rest, std::move(after));
  return true;
}

bool TextReader::is_last_piece() const {
  return state_->at_end && state_->rest.size() <= state_->piece_bytes;
}

bool TextReader::at_end() const { return state_->at_end && state_->rest.empty(); }

void encode_document(const Tokenizer& tokenizer, TextReader& reader,
                     const std::function<void(std::span<const int32_t> ids)>& take) {
  bool first = true;
  for (std::string piece; reader.next(piece); first = false) {
    const bool follows = !first && piece.starts_with('\n');
    if (reader.at_end()) {
      take(follows ? tokenizer.encode_part(piece, TextPart::last) : tokenizer.encode(piece));
    } else {
      take(tokenizer.encode_part(piece, follows ? TextPart::middle : TextPart::first));
    }
  }
}

std::vector<int32_t> encode_input(const Tokenizer& tokenizer, const TextInput& input) {
  std::vector<int32_t> all;
  TextReader reader(input);
  encode_document(tokenizer, reader, [&](std::span<const int32_t> ids) {
    all.insert(all.end(), ids.begin(), ids.end());
  });
  return all;
}

}  // namespace ringbolt
