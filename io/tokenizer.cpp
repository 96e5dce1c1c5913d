#include "io/tokenizer.h"

#include <filesystem>
#include <utility>

#include "core/base/error.h"

namespace ringbolt {
namespace {

constexpr int32_t kBos = 1;
constexpr int32_t kEos = 2;
constexpr int32_t kFirstByte = 3;
constexpr int32_t kByteVocabulary = kFirstByte + 256;

class ByteTokenizer final : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    ids.reserve(text.size());
    for (char c : text) ids.push_back(kFirstByte + static_cast<unsigned char>(c));
    return ids;
  }
  std::vector<int32_t> encode_part(std::string_view text, TextPart) const override {
    return encode(text);
  }
  bool cuts_at_line_ends() const override { return true; }
  std::string decode(std::span<const int32_t> ids) const override {
    std::string text;
    text.reserve(ids.size());
    for (int32_t id : ids) text += piece(id);
    return text;
  }
  std::string piece(int32_t id) const override {
    if (id < 0 || id >= kByteVocabulary) {
      throw UsageError(message(concat("cannot decode the token id ", id),
                               "the byte tokenizer has ids 0 to 258",
                               "Use the tokenizer that the model was trained with."));
    }
    return id < kFirstByte ? std::string() : std::string(1, static_cast<char>(id - kFirstByte));
  }
  bool drops_leading_space() const override { return false; }
  int64_t vocab_size() const override { return kByteVocabulary; }
  int32_t bos_id() const override { return kBos; }
  int32_t eos_id() const override { return kEos; }
  std::string name() const override { return "bytes"; }
  std::string hash() const override { return "0000000000000259"; }
};

/// Bytes of the UTF-8 character that `lead` begins; 1 for what cannot begin one.
size_t utf8_length(unsigned char lead) {
  if (lead >= 0xF0 && lead < 0xF8) return 4;
  if (lead >= 0xE0) return lead < 0xF0 ? 3 : 1;
  return lead >= 0xC2 ? 2 : 1;
}

/// How many bytes at the end of `text` begin a character whose rest is missing.
size_t incomplete_tail(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0U) == 0x80U) continue;  // a following byte; look further back for the first
    return utf8_length(byte) > back ? back : 0;
  }
  return 0;
}

}  // namespace

std::unique_ptr<Tokenizer> make_byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& path_or_bytes) {
  if (path_or_bytes == "bytes") return make_byte_tokenizer();
  if (std::filesystem::is_directory(path_or_bytes)) {
    return make_sentencepiece_tokenizer(
        (std::filesystem::path(path_or_bytes) / "tokenizer.model").string());
  }
  return make_sentencepiece_tokenizer(path_or_bytes);
}

std::string StreamingDecoder::push(int32_t id) {
  if (id == tokenizer_->bos_id()) at_start_ = true;
  std::string piece = tokenizer_->piece(id);
  if (piece.empty()) return finish();
  if (at_start_ && tokenizer_->drops_leading_space() && piece.front() == ' ') piece.erase(0, 1);
  at_start_ = false;
  std::string text = std::exchange(waiting_, {}) + piece;
  const size_t tail = incomplete_tail(text);
  waiting_ = text.substr(text.size() - tail);
  text.resize(text.size() - tail);
  return text;
}

std::string StreamingDecoder::finish() { return std::exchange(waiting_, {}); }

}  // namespace ringbolt
