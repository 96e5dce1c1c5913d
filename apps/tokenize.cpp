// ringbolt tokenize: text files to a token file.
#include <chrono>
#include <cmath>
#include <iostream>

#include "apps/commands.h"
#include "apps/common_options.h"
#include "apps/results.h"
#include "apps/text_input.h"
#include "core/base/build_info.h"
#include "core/base/error.h"
#include "core/base/quantity.h"
#include "io/tokenizer.h"
#include "io/tokens.h"

namespace ringbolt {
namespace {

struct TokenizeOptions {
  std::string tokenizer;
  TextInputOptions input;
  std::string output;
  bool add_bos = false;
  OutputOptions out;

  void declare(OptionSet& options) {
    options.group("Input");
    options.add("tokenizer", "FILE|bytes", tokenizer, "A SentencePiece model, a folder with tokenizer.model, or bytes").required();
    options.add("input", "PATH", input.paths,
                "Text files, folders (all files in them, sorted by name; binary ones are left out), or - for standard input");
    options.add("suffix", "TEXT", input.suffixes, "Of a folder's files, only those whose name ends so: .txt");
    options.add("document-separator", "TEXT", input.separator,
                "Ends a document inside a file; \\n is a line feed. Without it each file is one document");
    options.add("max-bytes", "N", input.max_bytes, "Stops after so many bytes of text; 0 reads all");
    options.flag("add-bos", add_bos, "Begins each document with the tokenizer's <s>");
    options.group("Output");
    options.add("output", "FILE", output, "The token file, in HDF5").required();
    out.declare(options);
    options.positional("input");
    options.example("tokenize --tokenizer bytes --output tokens.h5 book.txt");
    options.example("tokenize --tokenizer tokenizer.model --output tokens.h5 --suffix .txt texts/");
    options.example(
        "tokenize --tokenizer tokenizer.model --output stories.h5 --add-bos --document-separator '<|endoftext|>' - < stories.txt",
        "many documents in one file");
  }
};

/// "\n" and "\t" as a shell user writes them.
std::string unescaped(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    const bool escape = text[i] == '\\' && (next == 'n' || next == 't');
    plain += escape ? (next == 'n' ? '\n' : '\t') : text[i];
    if (escape) ++i;
  }
  return plain;
}

/// Feeds pieces of text to the tokenizer and its ids to the file.
class Encoder {
 public:
  Encoder(const Tokenizer& tokenizer, TokenWriter& writer, bool add_bos)
      : tokenizer_(tokenizer), writer_(writer), add_bos_(add_bos) {
    if (add_bos_ && tokenizer_.bos_id() < 0) {
      throw UsageError(message("--add-bos cannot be obeyed", concat("the tokenizer ", tokenizer_.name(), " has no <s>"),
                               "Leave it out."));
    }
  }

  void take(const TextPiece& piece) {
    if (piece.begins_document && add_bos_) {
      const int32_t bos = tokenizer_.bos_id();
      writer_.append({&bos, 1});
    }
    writer_.append(piece.begins_document ? tokenizer_.encode(piece.text) : tokenizer_.encode_continued(piece.text));
    if (piece.ends_document) writer_.end_document();
  }

 private:
  const Tokenizer& tokenizer_;
  TokenWriter& writer_;
  bool add_bos_;
};

void report(const TokenizeOptions& o, const Tokenizer& tokenizer, const TokenWriter& writer, const TextInput& input,
            double seconds) {
  const auto bytes = static_cast<double>(input.bytes_read());
  const double tokens_per_byte = static_cast<double>(writer.tokens()) / bytes;
  if (!json_is_output(o.out.json)) {
    std::cout << o.output << ": " << format_grouped(writer.tokens()) << " tokens in " << format_grouped(writer.documents())
              << (writer.documents() == 1 ? " document" : " documents") << " from " << format_bytes(input.bytes_read())
              << ", " << format_real(std::round(tokens_per_byte * 1e4) / 1e4) << " tokens per byte, "
              << format_bytes(static_cast<int64_t>(bytes / seconds)) << "/s\n";
    if (input.skipped_binary_files() > 0) {
      std::cout << input.skipped_binary_files() << " binary files were left out\n";
    }
  }
  Json result = begin_result("tokenize");
  result.set("output", o.output)
      .set("tokenizer", tokenizer.name())
      .set("tokenizer_hash", tokenizer.hash())
      .set("vocab_size", tokenizer.vocab_size())
      .set("files", input.files())
      .set("skipped_binary_files", input.skipped_binary_files())
      .set("documents", writer.documents())
      .set("tokens", writer.tokens())
      .set("bytes", input.bytes_read())
      .set("tokens_per_byte", tokens_per_byte)
      .set("seconds", seconds);
  write_result(o.out.json, result);
}

}  // namespace

int run_tokenize(const Arguments& arguments) {
  TokenizeOptions o;
  OptionSet options("tokenize", "Turns text into a token file, which train and evaluate read.");
  o.declare(options);
  if (!options.parse(arguments, std::cout)) return 0;
  if (o.input.paths.empty()) {
    throw UsageError(message("no input is given", "there is nothing to tokenize", "Name text files, folders, or -."));
  }

  const auto begun = std::chrono::steady_clock::now();
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(o.tokenizer);
  o.input.separator = unescaped(o.input.separator);
  o.input.may_cut = tokenizer->cuts_at_line_ends();
  TextInput input(o.input);
  TokenWriter writer(o.output, *tokenizer, build_line());
  Encoder encoder(*tokenizer, writer, o.add_bos);
  Progress progress("tokenize", input.total_bytes(), "bytes", o.out.progress_output(), 0, ProgressUnit::bytes);
  input.for_each([&](const TextPiece& piece) {
    encoder.take(piece);
    progress.update(input.bytes_read());
  });
  if (writer.tokens() == 0) {
    throw UsageError(message("the input has no tokens", "all of it is empty", "Name files that hold text."));
  }
  writer.finish();
  progress.finish();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begun;
  report(o, *tokenizer, writer, input, elapsed.count());
  return 0;
}

}  // namespace ringbolt
