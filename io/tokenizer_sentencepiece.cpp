#include <sentencepiece_processor.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "core/base/error.h"
#include "core/base/random.h"
#include "io/atomic_file.h"
#include "io/tokenizer.h"

namespace ringbolt {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, SentencePiece's visible space

/// Stands for a text that goes on behind a cut.
constexpr const char* kLineEnd = "\nb";

std::string hexadecimal(uint64_t value) {
  std::string text(17, '\0');
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(value));
  text.pop_back();
  return text;
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const std::string& path)
      : name_(std::filesystem::path(path).filename().string()) {
    const std::string model = read_whole_file(path);
    const auto status =
        model.empty() ? sentencepiece::util::Status() : processor_.LoadFromSerializedProto(model);
    if (model.empty() || !status.ok() || processor_.GetPieceSize() == 0) {
      throw IoError(message(concat("cannot read the tokenizer ", path),
                            model.empty() ? "the file is empty" : "it is not a SentencePiece model",
                            "Name a SentencePiece model (tokenizer.model), or use 'bytes'."));
    }
    hash_ = hexadecimal(stream_of(model));
    find_leading_space();
    find_parts();
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int> ids;
    const auto status = processor_.Encode({text.data(), text.size()}, &ids);
    if (!status.ok()) {
      throw Error(message(concat("cannot encode a text of ", text.size(), " bytes"),
                          status.ToString(), "Check the text and the tokenizer."));
    }
    return ids;
  }

  std::vector<int32_t> encode_part(std::string_view text, TextPart part) const override {
    if (!cuts_at_line_ends_) return encode(text);
    if (part == TextPart::last) return without_prefix(encode(text));
    // What follows keeps the model from trimming the spaces at the end.
    std::vector<int32_t> ids = encode(std::string(text) + kLineEnd);
    ids.resize(ids.size() - std::min(ids.size(), line_end_ids_));
    return part == TextPart::first ? ids : without_prefix(std::move(ids));
  }
  bool cuts_at_line_ends() const override { return cuts_at_line_ends_; }

  std::string decode(std::span<const int32_t> ids) const override {
    for (int32_t id : ids) check(id);
    std::string text;
    const auto status = processor_.Decode(std::vector<int>(ids.begin(), ids.end()), &text);
    if (!status.ok()) {
      throw Error(message(concat("cannot decode ", ids.size(), " ids"), status.ToString(),
                          "Check the tokenizer."));
    }
    return text;
  }

  std::string piece(int32_t id) const override {
    check(id);
    if (processor_.IsControl(id)) return {};
    if (processor_.IsUnknown(id))
      return processor_.DecodeIds({id});  // " U+2047 " unless the model says otherwise
    const std::string& raw = processor_.IdToPiece(id);
    if (processor_.IsByte(id))
      return std::string(1, static_cast<char>(std::stoi(raw.substr(3, 2), nullptr, 16)));
    std::string text;
    for (size_t i = 0; i < raw.size();) {
      const bool space = raw.compare(i, kSpace.size(), kSpace) == 0;
      text += space ? ' ' : raw[i];
      i += space ? kSpace.size() : 1;
    }
    return text;
  }
  bool drops_leading_space() const override { return drops_leading_space_; }

  int64_t vocab_size() const override { return processor_.GetPieceSize(); }
  int32_t bos_id() const override { return processor_.bos_id(); }
  int32_t eos_id() const override { return processor_.eos_id(); }
  std::string name() const override { return name_; }
  std::string hash() const override { return hash_; }

 private:
  void check(int32_t id) const {
    if (id >= 0 && id < processor_.GetPieceSize()) return;
    throw UsageError(
        message(concat("cannot decode the token id ", id),
                concat("the tokenizer ", name_, " has ids 0 to ", processor_.GetPieceSize() - 1),
                "Use the tokenizer that the model was trained with."));
  }

  /// The model's own decoder tells: does a text that begins with "▁x" begin with a space?
  void find_leading_space() {
    for (int32_t id = 0; id < processor_.GetPieceSize(); ++id) {
      const std::string& raw = processor_.IdToPiece(id);
      if (raw.size() <= kSpace.size() || !raw.starts_with(kSpace) ||
          raw.find(kSpace, 1) != std::string::npos)
        continue;
      drops_leading_space_ = processor_.DecodeIds({id}).front() != ' ';
      return;
    }
    drops_leading_space_ = true;  // a vocabulary of characters: "▁" stands alone
  }

  std::vector<int32_t> without_prefix(std::vector<int32_t> ids) const {
    const auto n = static_cast<std::ptrdiff_t>(std::min(ids.size(), prefix_ids_));
    ids.erase(ids.begin(), ids.begin() + n);
    return ids;
  }

  /// A call to encode begins with a space of its own (the "dummy prefix"). How many ids does it
  /// take before a line end, and how many the line end that follows a text? Both are read off
  /// encode("a\nb") = encode("a") + what is left of encode("\nb").
  void find_parts() {
    const std::vector<int32_t> whole = encode("a" + std::string(kLineEnd));
    const std::vector<int32_t> head = encode("a");
    const std::vector<int32_t> tail = encode(kLineEnd);
    if (whole.size() <= head.size() || head.size() + tail.size() < whole.size()) return;
    line_end_ids_ = whole.size() - head.size();
    prefix_ids_ = tail.size() - line_end_ids_;
    const auto prefix = static_cast<std::ptrdiff_t>(prefix_ids_);
    cuts_at_line_ends_ =
        std::equal(head.begin(), head.end(), whole.begin()) &&
        std::equal(tail.begin() + prefix, tail.end(), whole.end() - (std::ssize(tail) - prefix));
  }

  sentencepiece::SentencePieceProcessor processor_;
  std::string name_;
  std::string hash_;
  bool drops_leading_space_ = false;
  bool cuts_at_line_ends_ = false;
  size_t prefix_ids_ = 0;
  size_t line_end_ids_ = 0;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const std::string& path) {
  return std::make_unique<SentencePieceTokenizer>(path);
}

}  // namespace ringbolt
