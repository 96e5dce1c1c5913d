#include "io/tokenizer.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "core/base/random.h"
#include "tests/io/files.h"
#include "tests/support/data.h"

namespace ringbolt {
namespace {

using test::error_of;
using test::expect_message;
using test::TemporaryFolder;
using testing_support::data_path;

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  for (size_t begin = 0;;) {
    const size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == std::string::npos) return parts;
    begin = end + separator.size();
  }
}

std::vector<int32_t> numbers(const std::string& line) {
  std::istringstream in(line);
  std::vector<int32_t> ids;
  for (int32_t id = 0; in >> id;) ids.push_back(id);
  return ids;
}

std::string stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  StreamingDecoder decoder(tokenizer);
  std::string text;
  for (int32_t id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

TEST(ByteTokenizer, GivesBackEveryByteAndUsesTheIdsOfByteFallback) {
  const auto tokenizer = make_tokenizer("bytes");
  std::string all;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  const std::vector<int32_t> ids = tokenizer->encode(all);
  ASSERT_EQ(ids.size(), 256U);
  for (int32_t b = 0; b < 256; ++b) EXPECT_EQ(ids[static_cast<size_t>(b)], 3 + b);
  EXPECT_EQ(tokenizer->decode(ids), all);
  EXPECT_EQ(stream(*tokenizer, ids), all);
  EXPECT_EQ(tokenizer->vocab_size(), 259);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{1, 3 + 'a', 2}), "a");
  expect_message(error_of<UsageError>([&] { return tokenizer->decode(std::vector<int32_t>{259}); }),
                 {"259", "0 to 258"});
}

TEST(StreamingDecoder, HoldsBackIncompleteCharacters) {
  const auto tokenizer = make_tokenizer("bytes");
  const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";  // 1, 2, 3 and 4 bytes
  StreamingDecoder decoder(*tokenizer);
  std::vector<std::string> pieces;
  for (int32_t id : tokenizer->encode(text)) {
    if (const std::string piece = decoder.push(id); !piece.empty()) pieces.push_back(piece);
  }
  EXPECT_EQ(pieces,
            (std::vector<std::string>{"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "z"}));
  EXPECT_EQ(decoder.push(3 + 0xE2), "");
  EXPECT_EQ(decoder.finish(), "\xE2");
}

TEST(StreamingDecoder, PrintsWhatLlama2cPrintsForTheGreedyStory) {
  RINGBOLT_NEEDS_DATA();
  const std::string model = data_path("tokenizers/tok512/tok512.model");
  const auto tokenizer = make_tokenizer(model);
  const std::vector<int32_t> ids =
      numbers(read_whole_file(data_path("reference/stories260K_greedy200_ids.txt")));
  const std::string expected =
      read_whole_file(data_path("reference/stories260K_greedy200_expected.txt"));
  ASSERT_GE(ids.size(), 199U);
  EXPECT_EQ(stream(*tokenizer, ids), expected);
  EXPECT_EQ(tokenizer->decode(ids), expected);
  std::vector<int32_t> with_bos{1};
  with_bos.insert(with_bos.end(), ids.begin(), ids.end());
  EXPECT_EQ(stream(*tokenizer, with_bos), expected);
}

TEST(SentencePiece, ReproducesAll46LlamaStringsAndTheirTexts) {
  RINGBOLT_NEEDS_DATA();
  const std::string model = data_path("tokenizers/llama2/tokenizer.model");
  const auto tokenizer = make_tokenizer(model);
  EXPECT_EQ(tokenizer->vocab_size(), 32000);
  const std::string base = data_path("tokenizers/llama2/ggml-vocab-llama-spm.gguf");
  std::vector<std::string> texts = split(read_whole_file(base + ".inp"), "\n__ggml_vocab_test__\n");
  const std::vector<std::string> lines = split(read_whole_file(base + ".out"), "\n");
  ASSERT_GE(texts.size(), 46U);
  int same_ids = 0;
  for (size_t i = 0; i < 46; ++i) {
    const std::vector<int32_t> ids = tokenizer->encode(texts[i]);
    EXPECT_EQ(ids, numbers(lines[i])) << "string " << i << ": " << texts[i];
    same_ids += ids == numbers(lines[i]);
    EXPECT_EQ(tokenizer->decode(ids), texts[i]) << "string " << i;
    EXPECT_EQ(stream(*tokenizer, ids), texts[i]) << "string " << i;
  }
  EXPECT_EQ(same_ids, 46);
  EXPECT_EQ(tokenizer->encode("I believe the meaning of life is"),
            (std::vector<int32_t>{306, 4658, 278, 6593, 310, 2834, 338}));
}

}  // namespace
}  // namespace ringbolt
