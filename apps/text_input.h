// Text files as documents, read piece by piece: several GB pass through a few MB of memory.
//
// A document is a file, or what lies between separators in one. A piece ends where its document ends, or before a line
// feed that follows a printable ASCII character: there a tokenizer may be called again (see io/tokenizer.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace ringbolt {

struct TextInputOptions {
  std::vector<std::string> paths;     ///< files, folders (everything in them, sorted), "-" for standard input
  std::vector<std::string> suffixes;  ///< in folders, only names that end in one of these; empty takes all
  std::string separator;              ///< ends a document inside a file; empty: a file is one document
  int64_t max_bytes = 0;              ///< stop after these; 0: no limit
  bool may_cut = true;                ///< false: a piece is a whole document
  int64_t block_bytes = 4 << 20;      ///< read at once
};

struct TextPiece {
  std::string_view text;  ///< valid during the call
  bool begins_document;
  bool ends_document;
};

class TextInput {
 public:
  /// Finds all files. Throws: IoError for a path that is not there, UsageError where folders hold no file.
  explicit TextInput(TextInputOptions options);

  int64_t files() const { return static_cast<int64_t>(files_.size()); }
  /// Of all files, or the limit; 0 with standard input.
  int64_t total_bytes() const { return total_bytes_; }
  /// Of text, so far.
  int64_t bytes_read() const { return bytes_read_; }
  /// Files of folders that hold a zero byte in their first block, which no text has: left out.
  int64_t skipped_binary_files() const { return skipped_binary_files_; }

  /// Every document in pieces, in order; empty ones are left out, and so is a byte-order mark. A byte that the limit cuts
  /// out of a UTF-8 character goes with it. Throws: IoError where a file cannot be read.
  void for_each(const std::function<void(const TextPiece&)>& take);

 private:
  struct File {
    std::string path;
    bool may_be_binary;  ///< found in a folder, not named
  };

  void add_folder(const std::string& folder);
  void measure();
  bool at_limit() const { return options_.max_bytes > 0 && bytes_read_ >= options_.max_bytes; }
  void read_file(const File& file, const std::function<void(const TextPiece&)>& take);

  TextInputOptions options_;
  std::vector<File> files_;
  int64_t total_bytes_ = 0;
  int64_t bytes_read_ = 0;
  int64_t skipped_binary_files_ = 0;
};

}  // namespace ringbolt
