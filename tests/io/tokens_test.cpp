#include "io/tokens.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/base/random.h"
#include "tests/io/files.h"

namespace ringbolt {
namespace {

using test::error_of;
using test::expect_message;
using test::TemporaryFolder;

/// A vocabulary of any size; only its numbers matter here.
class CountingTokenizer final : public Tokenizer {
 public:
  explicit CountingTokenizer(int64_t vocab_size) : vocab_size_(vocab_size) {}
  std::vector<int32_t> encode(std::string_view) const override { return {}; }
  std::vector<int32_t> encode_part(std::string_view, TextPart) const override { return {}; }
  bool cuts_at_line_ends() const override { return true; }
  std::string decode(std::span<const int32_t>) const override { return {}; }
  std::string piece(int32_t) const override { return {}; }
  bool drops_leading_space() const override { return false; }
  int64_t vocab_size() const override { return vocab_size_; }
  int32_t bos_id() const override { return 1; }
  int32_t eos_id() const override { return 2; }
  std::string name() const override { return "counting"; }
  std::string hash() const override { return "0123456789abcdef"; }

 private:
  int64_t vocab_size_;
};

std::vector<int32_t> random_ids(int64_t n, int64_t vocab_size, uint64_t seed) {
  const Philox random(seed);
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int32_t>(random.bits(i) % static_cast<uint64_t>(vocab_size));
  }
  return ids;
}

TEST(Tokens, ComeBackInAnyRangeForSmallAndLargeVocabularies) {
  for (const int64_t vocab : {int64_t{2}, int64_t{65536}, int64_t{65537}, int64_t{1'000'000}}) {
    const TemporaryFolder folder;
    const std::string path = folder / "t.h5";
    // Longer than the writer's buffer and no multiple of a chunk.
    const std::vector<int32_t> ids = random_ids(1'200'001, vocab, 5);
    const std::span<const int32_t> all(ids);
    TokenWriter writer(path, CountingTokenizer(vocab), "a test");
    writer.add_document(all.first(7));
    writer.end_document();  // an empty one is not counted
    writer.append(all.subspan(7, 1'000'000));
    writer.append(all.subspan(1'000'007, 0));
    writer.add_document(all.subspan(1'000'007, 1));
    writer.append(all.subspan(1'000'008));
    EXPECT_FALSE(std::filesystem::exists(path));
    writer.finish();
    EXPECT_EQ(writer.documents(), 3);

    const TokenDataset set = TokenDataset::open(path);
    EXPECT_EQ(set.tokens(), std::ssize(ids));
    EXPECT_EQ(set.documents(), 3);
    EXPECT_EQ(set.offsets(), (std::vector<int64_t>{0, 7, 1'000'008, 1'200'001}));
    EXPECT_EQ(set.vocab_size(), vocab);
    EXPECT_EQ(set.tokenizer_name(), "counting");
    EXPECT_EQ(set.tokenizer_hash(), "0123456789abcdef");
    EXPECT_EQ(set.build(), "a test");
    int64_t compared = 0;
    for (int64_t begin = 0; begin < set.tokens(); begin += 99'991) {
      for (int64_t n : {int64_t{0}, int64_t{1}, int64_t{70'001}}) {
        n = std::min(n, set.tokens() - begin);
        std::vector<int32_t> part(static_cast<size_t>(n));
        set.read(begin, part);
        EXPECT_TRUE(std::equal(part.begin(), part.end(), ids.begin() + begin)) << begin << " " << n;
        compared += n;
      }
    }
    EXPECT_GT(compared, 800'000);
  }
}

TEST(Tokens, AnEmptyDatasetIsFine) {
  const TemporaryFolder folder;
  TokenWriter writer(folder / "t.h5", *make_byte_tokenizer(), "a test");
  writer.finish();
  const TokenDataset set = TokenDataset::open(folder / "t.h5");
  EXPECT_EQ(set.tokens(), 0);
  EXPECT_EQ(set.documents(), 0);
}

TEST(Tokens, KeepTheOldFileUntilTheNewOneIsFinished) {
  const TemporaryFolder folder;
  const std::string path = folder / "t.h5";
  const std::vector<int32_t> ids{5, 6, 7};
  TokenWriter first(path, *make_byte_tokenizer(), "a test");
  first.add_document(ids);
  first.finish();
  {
    TokenWriter second(path, *make_byte_tokenizer(), "a test");
    second.add_document(std::vector<int32_t>{9});
  }
  EXPECT_EQ(TokenDataset::open(path).tokens(), 3);
  EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
}

TEST(Tokens, RefuseAnIdOutsideTheVocabularyNamingItsPosition) {
  const TemporaryFolder folder;
  const std::string path = folder / "t.h5";
  TokenWriter writer(path, *make_byte_tokenizer(), "a test");
  writer.append(std::vector<int32_t>(10, 4));
  expect_message(error_of<UsageError>([&] {
                   writer.append(std::vector<int32_t>{5, 259});
                 }),
                 {"259", "position 11", "0 to 258"});
  expect_message(error_of<UsageError>([&] { writer.append(std::vector<int32_t>{-1}); }),
                 {"-1", "position 10"});
  expect_message(error_of<UsageError>([] {
                   TokenDataset::from_memory({1, 2, 300}, 300);
                 }),
                 {"300", "position 2"});

  // A file of someone else's making.
  hdf5::File file = hdf5::File::create(path, {kTokensFormat, 1, "a test"});
  hdf5::Dataset tokens = file.create_extendible("tokens", hdf5::Type::u16);
  tokens.append<uint16_t>(std::vector<uint16_t>{1, 2, 3, 512, 4});
  file.create_dataset("documents", hdf5::Type::i64, {2})
      .write<int64_t>(0, std::vector<int64_t>{0, 5});
  file.set_attribute("vocab_size", int64_t{512});
  file.set_attribute("tokenizer_name", "x");
  file.set_attribute("tokenizer_hash", "y");
  file.close();
  const TokenDataset set = TokenDataset::open(path);
  std::vector<int32_t> part(3);
  set.read(0, part);
  expect_message(error_of([&] { set.read(1, part); }), {path, "position 3", "512"});
  expect_message(error_of<UsageError>([&] { set.read(3, part); }), {"3 to 6", path, "there are 5"});
}

TEST(Tokens, RefuseDocumentsThatDoNotCoverThem) {
  const TemporaryFolder folder;
  const std::string path = folder / "t.h5";
  for (const std::vector<int64_t>& offsets :
       {std::vector<int64_t>{0, 4}, std::vector<int64_t>{1, 5}, std::vector<int64_t>{0, 3, 2, 5}}) {
    hdf5::File file = hdf5::File::create(path, {kTokensFormat, 1, "a test"});
    hdf5::Dataset tokens = file.create_extendible("tokens", hdf5::Type::u16);
    tokens.append<uint16_t>(std::vector<uint16_t>{1, 2, 3, 4, 5});
    file.create_dataset("documents", hdf5::Type::i64, {std::ssize(offsets)})
        .write<int64_t>(0, offsets);
    file.set_attribute("vocab_size", int64_t{512});
    file.set_attribute("tokenizer_name", "x");
    file.set_attribute("tokenizer_hash", "y");
    file.close();
    expect_message(error_of([&] { TokenDataset::open(path); }), {path, "5 tokens"});
  }
}

TEST(Tokens, FromMemoryReadLikeAFile) {
  const TokenDataset set = TokenDataset::from_memory({3, 1, 4, 1, 5}, 6);
  std::vector<int32_t> part(3);
  set.read(1, part);
  EXPECT_EQ(part, (std::vector<int32_t>{1, 4, 1}));
  EXPECT_EQ(set.offsets(), (std::vector<int64_t>{0, 5}));
  expect_message(error_of<UsageError>([&] { set.read(3, part); }), {"memory", "there are 5"});
}

TEST(Tokens, LeaveNothingOnAFullDisk) {
  const test::SmallDisk disk(300);
  if (!disk.mounted()) GTEST_SKIP() << "NOT TESTED: this user may not mount a small disk";
  for (const int64_t n :
       {int64_t{4'000'000}, int64_t{152'000}, int64_t{150'000}, int64_t{148'000}}) {
    const std::string error = error_of([&] {
      TokenWriter writer(disk / "t.h5", *make_byte_tokenizer(), "a test");
      writer.append(random_ids(n, 259, 6));
      writer.finish();
    });
    expect_message(error, {"t.h5", "No space left on device", "Free some space"});
    EXPECT_TRUE(std::filesystem::is_empty(disk.path()));
  }
}

}  // namespace
}  // namespace ringbolt
