#include "io/tokens.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"

namespace ringbolt {
namespace {

constexpr const char* kTokens = "tokens";
constexpr const char* kDocuments = "documents";
constexpr int64_t kChunk = int64_t{1} << 16;  // tokens of a chunk, the unit of checksums
constexpr int64_t kFlush = int64_t{1} << 20;  // tokens collected before they are written

hdf5::Type stored_type(int64_t vocab_size) {
  return vocab_size <= 65536 ? hdf5::Type::u16 : hdf5::Type::i32;
}

/// The first id outside [0, vocab_size), or -1.
int64_t first_bad(std::span<const int32_t> ids, int64_t vocab_size) {
  const auto bad =
      std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return id < 0 || id >= vocab_size; });
  return bad == ids.end() ? -1 : bad - ids.begin();
}

std::string outside(int64_t vocab_size) {
  return concat("the vocabulary has the ids 0 to ", vocab_size - 1);
}

[[noreturn]] void refuse_contents(const std::string& path, const std::string& why) {
  throw IoError(
      message(concat("cannot use the token file ", path), why, "Tokenize the text again."));
}

}  // namespace

// --- writing -------------------------------------------------------------------------------------

TokenWriter::TokenWriter(const std::string& path, const Tokenizer& tokenizer,
                         const std::string& build)
    : target_(path),
      file_(hdf5::File::create(target_.partial_path(), {kTokensFormat, 1, build})),
      tokens_(file_.create_extendible(kTokens, stored_type(tokenizer.vocab_size()), kChunk)),
      vocab_size_(tokenizer.vocab_size()) {
  file_.set_attribute("tokenizer_name", tokenizer.name());
  file_.set_attribute("tokenizer_hash", tokenizer.hash());
  file_.set_attribute("vocab_size", vocab_size_);
}

void TokenWriter::append(std::span<const int32_t> ids) {
  if (const int64_t bad = first_bad(ids, vocab_size_); bad >= 0) {
    throw UsageError(message(concat("cannot store the token id ", ids[static_cast<size_t>(bad)],
                                    " at position ", count_ + bad),
                             outside(vocab_size_), "Encode the text with this tokenizer."));
  }
  buffer_.insert(buffer_.end(), ids.begin(), ids.end());
  count_ += std::ssize(ids);
  if (std::ssize(buffer_) >= kFlush) flush();
}

void TokenWriter::end_document() {
  if (count_ > offsets_.back()) offsets_.push_back(count_);
}

void TokenWriter::flush() {
  if (buffer_.empty()) return;
  if (tokens_.type() == hdf5::Type::u16) {
    std::vector<uint16_t> narrow(buffer_.size());
    std::transform(buffer_.begin(), buffer_.end(), narrow.begin(),
                   [](int32_t id) { return static_cast<uint16_t>(id); });
    tokens_.append<uint16_t>(narrow);
  } else {
    tokens_.append<int32_t>(buffer_);
  }
  buffer_.clear();
}

void TokenWriter::finish() {
  end_document();
  flush();
  hdf5::Dataset documents =
      file_.create_dataset(kDocuments, hdf5::Type::i64, {std::ssize(offsets_)});
  documents.write<int64_t>(0, offsets_);
  file_.close();
  target_.commit();
}

// --- reading -------------------------------------------------------------------------------------

struct TokenDataset::Store {
  hdf5::File file;
  hdf5::Dataset tokens;
};

TokenDataset TokenDataset::open(const std::string& path) {
  hdf5::File file = hdf5::File::open(path, kTokensFormat);
  hdf5::Dataset tokens = file.dataset(kTokens);
  const hdf5::Dataset documents = file.dataset(kDocuments);
  TokenDataset set;
  set.path_ = path;
  set.build_ = file.stamp().build;
  set.tokenizer_name_ = file.text_attribute("tokenizer_name");
  set.tokenizer_hash_ = file.text_attribute("tokenizer_hash");
  set.vocab_size_ = file.integer_attribute("vocab_size");
  set.count_ = tokens.elements();
  set.offsets_.resize(static_cast<size_t>(documents.elements()));
  documents.read<int64_t>(0, set.offsets_);
  if (set.vocab_size_ < 1 || tokens.shape().rank() != 1 ||
      tokens.type() != stored_type(set.vocab_size_)) {
    refuse_contents(path, concat("tokens of a vocabulary of ", set.vocab_size_, " are stored as ",
                                 name_of(tokens.type()), " ", tokens.shape().str()));
  }
  const auto& offsets = set.offsets_;
  if (offsets.empty() || offsets.front() != 0 || offsets.back() != set.count_ ||
      !std::is_sorted(offsets.begin(), offsets.end())) {
    refuse_contents(path, concat("its documents do not cover its ", set.count_, " tokens"));
  }
  set.store_ = std::make_shared<const Store>(Store{std::move(file), std::move(tokens)});
  return set;
}

TokenDataset TokenDataset::from_memory(std::vector<int32_t> ids, int64_t vocab_size) {
  if (const int64_t bad = first_bad(ids, vocab_size); bad >= 0) {
    throw UsageError(message(
        concat("cannot use the token id ", ids[static_cast<size_t>(bad)], " at position ", bad),
        outside(vocab_size), "Use the tokenizer that the model was trained with."));
  }
  TokenDataset set;
  set.path_ = "memory";
  set.vocab_size_ = vocab_size;
  set.count_ = std::ssize(ids);
  set.offsets_ = {0};
  if (set.count_ > 0) set.offsets_.push_back(set.count_);
  set.memory_ = std::move(ids);
  return set;
}

void TokenDataset::read(int64_t begin, std::span<int32_t> out) const {
  const int64_t n = std::ssize(out);
  if (begin < 0 || begin > count_ - n) {
    throw UsageError(
        message(concat("cannot read the tokens ", begin, " to ", begin + n, " of ", path_),
                concat("there are ", count_), "Use a shorter length, or more text."));
  }
  if (!store_) {
    std::copy_n(memory_.begin() + begin, n, out.begin());
    return;
  }
  if (store_->tokens.type() == hdf5::Type::u16) {
    std::vector<uint16_t> narrow(out.size());
    store_->tokens.read<uint16_t>(begin, narrow);
    std::copy(narrow.begin(), narrow.end(), out.begin());
  } else {
    store_->tokens.read<int32_t>(begin, out);
  }
  if (const int64_t bad = first_bad(out, vocab_size_); bad >= 0) {
    refuse_contents(path_, concat("the token at position ", begin + bad, " is ",
                                  out[static_cast<size_t>(bad)], " and ", outside(vocab_size_)));
  }
}

}  // namespace ringbolt
