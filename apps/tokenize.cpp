// ringbolt tokenize: text files to a token file.
#include <chrono>
#include <cmath>
#include <iostream>
#include <memory>

#include "apps/commands.h"
#include "apps/common_options.h"
#include "apps/results.h"
#include "core/base/build_info.h"
#include "core/base/error.h"
#include "core/base/quantity.h"
#include "io/text_source.h"
#include "io/tokenizer.h"
#include "io/tokens.h"

namespace ringbolt {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;

struct TokenizeOptions {
  std::string tokenizer;
  std::vector<std::string> input;
  std::string output;
  bool add_bos = false;
  OutputOptions out;

  void declare(OptionSet& options) {
    options.group("Input");
    options
        .add("tokenizer", "FILE|bytes", tokenizer,
             "A SentencePiece model, a folder with tokenizer.model, or bytes")
        .required();
    options.add("input", "PATH", input,
                "Text files, each one document; folders (all text files in them, by name); - is "
                "standard input");
    options.flag("add-bos", add_bos, "Begins each document with the tokenizer's <s>");
    options.group("Output");
    options.add("output", "FILE", output, "The token file, in HDF5").required();
    out.declare(options);
    options.positional("input");
    options.example("tokenize --tokenizer bytes --output tokens.h5 book.txt");
    options.example("tokenize --tokenizer tokenizer.model --output tokens.h5 --add-bos texts/");
    options.example("tokenize --tokenizer bytes --output tokens.h5 - < book.txt");
  }
};

/// What was read and written, for the report.
struct Counts {
  int64_t bytes = 0;
  double seconds = 0;
};

int64_t total_bytes(const TextInputs& inputs) {
  int64_t total = 0;
  for (const TextInput& input : inputs.files) {
    if (input.bytes < 0) return 0;
    total += input.bytes;
  }
  return total;
}

Counts encode_all(const TokenizeOptions& o, const TextInputs& inputs, const Tokenizer& tokenizer,
                  TokenWriter& writer) {
  const auto begun = std::chrono::steady_clock::now();
  const int32_t bos = tokenizer.bos_id();
  if (o.add_bos && bos < 0) {
    throw UsageError(message("--add-bos cannot be obeyed",
                             concat("the tokenizer ", tokenizer.name(), " has no <s>"),
                             "Leave it out."));
  }
  Progress progress("tokenize", total_bytes(inputs), "bytes", o.out.progress_output(), 0,
                    ProgressUnit::bytes);
  Counts counts;
  for (const TextInput& input : inputs.files) {
    // Small pieces keep the bar moving; a tokenizer that cannot be called again inside a text gets
    // it whole.
    TextReader reader(input, tokenizer.cuts_at_line_ends() ? kPieceBytes : TextReader::kPieceBytes);
    bool is_empty = true;
    encode_document(tokenizer, reader, [&](std::span<const int32_t> ids) {
      if (is_empty && o.add_bos && !ids.empty()) writer.append({&bos, 1});
      is_empty = is_empty && ids.empty();
      writer.append(ids);
      progress.update(counts.bytes + reader.bytes_read());
    });
    writer.end_document();
    counts.bytes += reader.bytes_read();
  }
  progress.update(counts.bytes);
  progress.finish();
  counts.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  return counts;
}

void report(const TokenizeOptions& o, const Tokenizer& tokenizer, const TokenWriter& writer,
            const TextInputs& inputs, const Counts& counts) {
  const auto bytes = static_cast<double>(counts.bytes);
  const double tokens_per_byte = static_cast<double>(writer.tokens()) / bytes;
  if (!json_is_output(o.out.json)) {
    std::cout << o.output << ": " << format_grouped(writer.tokens()) << " tokens in "
              << format_grouped(writer.documents())
              << (writer.documents() == 1 ? " document" : " documents") << " from "
              << format_bytes(counts.bytes) << ", "
              << format_real(std::round(tokens_per_byte * 1e4) / 1e4) << " tokens per byte, "
              << format_bytes(static_cast<int64_t>(bytes / counts.seconds)) << "/s\n";
    for (const std::string& skipped : inputs.skipped) std::cout << "left out " << skipped << '\n';
  }
  Json result = begin_result("tokenize");
  result.set("output", o.output)
      .set("tokenizer", tokenizer.name())
      .set("tokenizer_hash", tokenizer.hash())
      .set("vocab_size", tokenizer.vocab_size())
      .set("files", inputs.files.size())
      .set("skipped_files", inputs.skipped.size())
      .set("documents", writer.documents())
      .set("tokens", writer.tokens())
      .set("bytes", counts.bytes)
      .set("tokens_per_byte", tokens_per_byte)
      .set("seconds", counts.seconds);
  write_result(o.out.json, result);
}

}  // namespace

int run_tokenize(const Arguments& arguments) {
  TokenizeOptions o;
  OptionSet options("tokenize", "Turns text into a token file, which train and evaluate read.");
  o.declare(options);
  if (!options.parse(arguments, std::cout)) return 0;
  if (o.input.empty()) {
    throw UsageError(message("no input is given", "there is nothing to tokenize",
                             "Name text files, folders, or -."));
  }

  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(o.tokenizer);
  const TextInputs inputs = find_text_inputs(o.input);
  TokenWriter writer(o.output, *tokenizer, build_line());
  const Counts counts = encode_all(o, inputs, *tokenizer, writer);
  if (writer.tokens() == 0) {
    throw UsageError(
        message("the input has no tokens", "all of it is empty", "Name files that hold text."));
  }
  writer.finish();
  report(o, *tokenizer, writer, inputs, counts);
  return 0;
}

}  // namespace ringbolt
