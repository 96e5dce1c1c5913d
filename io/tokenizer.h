// Text to token ids and back.
//
// Two kinds: bytes (the ids of LLaMA's byte fallback: 3 + byte) and SentencePiece models. `encode`
// adds neither <s> nor
// </s>. `StreamingDecoder` gives the text piece by piece while ids are generated.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ringbolt {

enum class TextPart { first, middle, last };

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual std::vector<int32_t> encode(std::string_view text) const = 0;
  /// The ids that one part of a longer text has in the ids of the whole, for texts too long for one
  /// call. Every part but the first begins with "\n". Requires for that: cuts_at_line_ends(), and
  /// that the character before the cut is no "\n".
  virtual std::vector<int32_t> encode_part(std::string_view text, TextPart part) const = 0;
  virtual bool cuts_at_line_ends() const = 0;
  /// Throws: UsageError for an id outside [0, vocab_size).
  virtual std::string decode(std::span<const int32_t> ids) const = 0;
  /// The bytes that one token stands for: a byte, a text with its leading space, or nothing for <s>
  /// and </s>.
  virtual std::string piece(int32_t id) const = 0;
  /// Whether decoding drops one space at the beginning of a text (encoding put it there).
  virtual bool drops_leading_space() const = 0;

  virtual int64_t vocab_size() const = 0;
  /// -1 where there is none.
  virtual int32_t bos_id() const = 0;
  virtual int32_t eos_id() const = 0;
  /// "bytes", or the model's file name.
  virtual std::string name() const = 0;
  /// Of the whole vocabulary, 16 hexadecimal digits: equal hashes mean equal ids.
  virtual std::string hash() const = 0;
};

/// "bytes", a SentencePiece model, or a folder that holds tokenizer.model. Throws: IoError.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& path_or_bytes);

/// Vocabulary 259: 0 <unk>, 1 <s>, 2 </s>, then 3 + byte. Every text comes back unchanged.
std::unique_ptr<Tokenizer> make_byte_tokenizer();
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const std::string& path);

/// Text from ids as they come. The pieces joined are the text of all ids: what decode() gives, and
/// what llama2.c prints, but that bytes which are no UTF-8 stay as they are (SentencePiece has
/// U+FFFD for them). <s> begins a new text.
class StreamingDecoder {
 public:
  /// Requires: the tokenizer outlives the decoder.
  explicit StreamingDecoder(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

  /// The characters that `id` completes: empty while a UTF-8 character waits for its other bytes.
  std::string push(int32_t id);
  /// What is left at the end: the bytes of an incomplete character.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  std::string waiting_;
  bool at_start_ = true;
};

}  // namespace ringbolt
