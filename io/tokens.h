// Token datasets: /tokens (u16 where the vocabulary fits, else i32) and /documents (i64, n + 1
// offsets) in one HDF5 file, with the tokenizer's name and hash.
//
// Written in pieces and read in ranges, so that neither side ever holds the whole.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/atomic_file.h"
#include "io/hdf5.h"
#include "io/tokenizer.h"

namespace ringbolt {

inline constexpr const char* kTokensFormat = "ringbolt-tokens";

/// A stream of tokens with random access.
class TokenSource {
 public:
  virtual ~TokenSource() = default;
  virtual int64_t tokens() const = 0;
  virtual int64_t vocab_size() const = 0;
  /// Tokens [begin, begin + out.size()). Throws: UsageError where they do not exist, IoError for an
  /// id outside the vocabulary.
  virtual void read(int64_t begin, std::span<int32_t> out) const = 0;
};

class TokenWriter {
 public:
  /// Throws: IoError where `path` cannot be written.
  TokenWriter(const std::string& path, const Tokenizer& tokenizer, const std::string& build);

  /// Continues the present document. Throws: UsageError for an id outside the vocabulary.
  void append(std::span<const int32_t> ids);
  /// Ends the present document; one without tokens is not counted.
  void end_document();
  void add_document(std::span<const int32_t> ids) {
    append(ids);
    end_document();
  }
  /// Ends the last document and gives the file its name. Without it nothing remains.
  void finish();

  int64_t tokens() const { return count_; }
  int64_t documents() const { return static_cast<int64_t>(offsets_.size()) - 1; }

 private:
  void flush();

  AtomicFile target_;
  hdf5::File file_;
  hdf5::Dataset tokens_;
  int64_t vocab_size_;
  int64_t count_ = 0;
  std::vector<int32_t> buffer_;
  std::vector<int64_t> offsets_{0};
};

class TokenDataset final : public TokenSource {
 public:
  /// Throws: IoError for a file that is missing, damaged or none of Ringbolt's.
  static TokenDataset open(const std::string& path);
  /// Tokens held in memory, one document. Throws: UsageError for an id outside the vocabulary.
  static TokenDataset from_memory(std::vector<int32_t> ids, int64_t vocab_size);

  int64_t tokens() const override { return count_; }
  int64_t vocab_size() const override { return vocab_size_; }
  void read(int64_t begin, std::span<int32_t> out) const override;
  int64_t documents() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  /// Where each document begins, and the end: documents() + 1 ascending numbers from 0 to tokens().
  const std::vector<int64_t>& offsets() const { return offsets_; }
  const std::string& tokenizer_name() const { return tokenizer_name_; }
  const std::string& tokenizer_hash() const { return tokenizer_hash_; }
  /// The file, or "memory".
  const std::string& path() const { return path_; }
  /// The program that wrote it.
  const std::string& build() const { return build_; }

 private:
  TokenDataset() = default;

  struct Store;  // the open file
  std::shared_ptr<const Store> store_;
  std::vector<int32_t> memory_;
  std::vector<int64_t> offsets_;
  int64_t count_ = 0;
  int64_t vocab_size_ = 0;
  std::string path_;
  std::string build_;
  std::string tokenizer_name_;
  std::string tokenizer_hash_;
};

}  // namespace ringbolt
