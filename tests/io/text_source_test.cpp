#include "io/text_source.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "core/base/random.h"
#include "tests/io/files.h"
#include "tests/support/data.h"

namespace ringbolt {
namespace {

using test::error_of;
using test::expect_message;
using test::TemporaryFolder;
using testing_support::data_path;

std::vector<std::string> pieces_of(const std::string& path, int64_t piece_bytes) {
  TextReader reader({path, -1}, piece_bytes);
  std::vector<std::string> pieces;
  for (std::string piece; reader.next(piece);) pieces.push_back(piece);
  return pieces;
}

std::string joined(const std::vector<std::string>& pieces) {
  std::string all;
  for (const std::string& piece : pieces) all += piece;
  return all;
}

TEST(TextSource, FindsTextInFoldersSortedAndSaysWhatItSkips) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "b/c");
  std::filesystem::create_directories(folder / ".git");
  test::overwrite(folder / "z.txt", "z");
  test::overwrite(folder / "b/a.txt", "a");
  test::overwrite(folder / "b/c/d", "no extension");
  test::overwrite(folder / "b/binary", std::string("a\0b", 3));
  test::overwrite(folder / "b/empty.txt", "");
  test::overwrite(folder / ".git/x", "hidden");
  const std::vector<std::string> paths{"-", folder.path()};
  const TextInputs inputs = find_text_inputs(paths);
  ASSERT_EQ(inputs.files.size(), 4U);
  EXPECT_EQ(inputs.files[0].path, "-");
  EXPECT_EQ(inputs.files[1].path, folder / "b/a.txt");
  EXPECT_EQ(inputs.files[2].path, folder / "b/c/d");
  EXPECT_EQ(inputs.files[3].path, folder / "z.txt");
  EXPECT_EQ(inputs.files[2].bytes, 12);
  ASSERT_EQ(inputs.skipped.size(), 2U);
  EXPECT_EQ(inputs.skipped[0], (folder / "b/binary") + ": not text (it has zero bytes)");
  EXPECT_EQ(inputs.skipped[1], (folder / "b/empty.txt") + ": empty");
}

TEST(TextSource, RefusesMissingBinaryAndEmptyInputs) {
  const TemporaryFolder folder;
  test::overwrite(folder / "binary", std::string("a\0b", 3));
  const auto find = [](const std::string& path) {
    return error_of([&] { find_text_inputs(std::vector<std::string>{path}); });
  };
  expect_message(find(folder / "none.txt"), {folder / "none.txt", "No such file"});
  expect_message(find(folder / "binary"), {folder / "binary", "zero bytes"});
  expect_message(find(folder.path()), {"no text", folder / "binary"});
  expect_message(error_of([&] {
                   TextReader({folder / "none.txt", -1});
                 }),
                 {folder / "none.txt", "No such file"});
}

TEST(TextSource, DropsAByteOrderMarkAndKeepsTheRest) {
  const TemporaryFolder folder;
  const std::string body = "one\r\ntwo\r\n\xEF\xBB\xBFthree";
  test::overwrite(folder / "a", "\xEF\xBB\xBF" + body);
  EXPECT_EQ(pieces_of(folder / "a", 1000), (std::vector<std::string>{body}));
  for (int64_t bytes = 8; bytes < 30; ++bytes)
    EXPECT_EQ(joined(pieces_of(folder / "a", bytes)), body) << bytes;
  test::overwrite(folder / "mark", "\xEF\xBB\xBF");
  EXPECT_TRUE(pieces_of(folder / "mark", 100).empty());
}

TEST(TextSource, CutsBeforeLineEndsBehindPrintableCharacters) {
  const TemporaryFolder folder;
  std::string text;
  const Philox random(3);
  for (uint64_t i = 0; i < 3000; ++i) {
    constexpr std::string_view kSome[] = {"a",  "bc ",      "\n",   "\r\n",
                                          ". ", "\xC3\xA9", "\n\n", "word"};
    text += kSome[random.bits(i) % std::size(kSome)];
  }
  test::overwrite(folder / "a", text);
  for (const int64_t bytes : {200, 201, 333, 1000, 4096}) {
    const std::vector<std::string> pieces = pieces_of(folder / "a", bytes);
    EXPECT_EQ(joined(pieces), text);
    EXPECT_GT(std::ssize(pieces), std::ssize(text) / bytes);
    for (size_t i = 0; i < pieces.size(); ++i) {
      EXPECT_LE(std::ssize(pieces[i]), bytes);
      if (i == 0) continue;
      EXPECT_EQ(pieces[i].front(), '\n');
      const std::string& before = pieces[i - 1];
      const char last = before.at(before.find_last_not_of(" \r"));
      EXPECT_TRUE(last > ' ' && last < '\x7F') << before;
    }
  }
}

TEST(TextSource, CutsLongLinesBetweenCharacters) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 200; ++i) text += "\xE2\x82\xAC\xF0\x9F\x98\x80z";
  test::overwrite(folder / "a", text);
  for (const int64_t bytes : {8, 9, 10, 11, 50}) {
    const std::vector<std::string> pieces = pieces_of(folder / "a", bytes);
    EXPECT_EQ(joined(pieces), text);
    EXPECT_GT(pieces.size(), 20U);
    for (const std::string& piece : pieces)
      EXPECT_NE(static_cast<unsigned char>(piece.front()) & 0xC0U, 0x80U);
  }
}

TEST(TextSource, ReadsStandardInputAsOneDocument) {
  const TemporaryFolder folder;
  const std::string text(100'000, 'x');
  test::overwrite(folder / "a", text);
  const int saved = ::dup(STDIN_FILENO);
  ASSERT_NE(std::freopen((folder / "a").c_str(), "r", stdin), nullptr);
  EXPECT_EQ(encode_input(*make_byte_tokenizer(), {"-", -1}).size(), text.size());
  ::dup2(saved, STDIN_FILENO);
  ::close(saved);
}

/// The ids of a text read in pieces of `piece_bytes`.
std::vector<int32_t> encode_in_pieces(const Tokenizer& tokenizer, const std::string& path,
                                      int64_t piece_bytes) {
  TextReader reader({path, -1}, piece_bytes);
  std::vector<int32_t> all;
  encode_document(tokenizer, reader, [&](std::span<const int32_t> ids) {
    all.insert(all.end(), ids.begin(), ids.end());
  });
  return all;
}

TEST(TextSource, PiecesGiveTheIdsOfTheWholeForEveryTokenizer) {
  RINGBOLT_NEEDS_DATA();
  const TemporaryFolder folder;
  const std::string path = folder / "a";
  for (const std::string name : {"llama2/tokenizer.model", "mistral_v1/tokenizer.model",
                                 "tok512/tok512.model", "tok105/tok105.model"}) {
    const auto tokenizer = make_tokenizer(data_path("tokenizers/" + name).string());
    EXPECT_TRUE(tokenizer->cuts_at_line_ends()) << name;
    // Plain text; CRLF with a byte-order mark; lines that all end in a space.
    for (const std::string text :
         {"tinystories/tinystories_val_v1.txt", "train/gutenberg_verbatim/moby_dick.txt",
          "wikitext2/valid.txt"}) {
      test::overwrite(path, read_whole_file(data_path("text/" + text).string()).substr(0, 200'000));
      const std::vector<int32_t> whole =
          encode_in_pieces(*tokenizer, path, TextReader::kPieceBytes);
      EXPECT_GT(whole.size(), 40'000U);
      const std::vector<int32_t> pieces = encode_in_pieces(*tokenizer, path, 3'001);
      const auto [a, b] = std::mismatch(whole.begin(), whole.end(), pieces.begin(), pieces.end());
      EXPECT_TRUE(a == whole.end() && b == pieces.end())
          << name << " " << text << ": differs from token " << a - whole.begin() << " of "
          << whole.size();
    }
  }
}

}  // namespace
}  // namespace ringbolt
