// Text to tokenize: files, folders and standard input, read in pieces.
//
// One document a file; standard input is one document. A leading UTF-8 byte-order mark is dropped;
// everything else, CRLF included, stays as it is. Files up to kPieceBytes are one piece, so that
// they are encoded as one string; longer ones are cut before line ends, where encoding the pieces
// (encode_document) gives the ids of the whole.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/tokenizer.h"

namespace ringbolt {

struct TextInput {
  std::string path;    ///< "-" for standard input
  int64_t bytes = -1;  ///< -1 where it is not known
};

struct TextInputs {
  std::vector<TextInput> files;      ///< in the order given; what a folder holds by name
  std::vector<std::string> skipped;  ///< "<path>: <why>", of what folders hold and is no text
};

/// Files and "-" are taken as they are named; folders are searched through, hidden files left out.
/// Throws: IoError for a path that is missing, a named file that is binary, or where nothing is
/// found.
TextInputs find_text_inputs(std::span<const std::string> paths);

class TextReader {
 public:
  /// A file of at most so many bytes is one piece.
  static constexpr int64_t kPieceBytes = int64_t{64} << 20;

  /// Throws: IoError where it cannot be opened.
  explicit TextReader(const TextInput& input, int64_t piece_bytes = kPieceBytes);
  ~TextReader();
  TextReader(TextReader&&) noexcept;
  TextReader& operator=(TextReader&&) = delete;

  /// The next piece; false at the end. Every piece but the first begins with the "\n" behind a
  /// printable ASCII character (and perhaps spaces or "\r"), or, where the text has no such place
  /// within a piece, with any "\n" or character. Throws: IoError.
  bool next(std::string& piece);
  /// Nothing is left after the piece given last.
  bool at_end() const;
  int64_t bytes_read() const;

 private:
  bool is_last_piece() const;
  struct State;
  std::unique_ptr<State> state_;
};

/// Encodes one document piece by piece; `take` gets the ids of each.
/// Throws: IoError naming the file.
void encode_document(const Tokenizer& tokenizer, TextReader& reader,
                     const std::function<void(std::span<const int32_t> ids)>& take);

/// All ids of one input. Throws: IoError.
std::vector<int32_t> encode_input(const Tokenizer& tokenizer, const TextInput& input);

}  // namespace ringbolt
