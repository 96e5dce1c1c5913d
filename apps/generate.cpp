// ringbolt generate: continues a prompt.
#include <chrono>
#include <iostream>
#include <utility>

#include <unistd.h>

#include "apps/commands.h"
#include "apps/common_options.h"
#include "apps/model_options.h"
#include "apps/results.h"
#include "apps/untuned_positions.h"
#include "core/base/error.h"
#include "core/base/quantity.h"
#include "core/generate/generator.h"
#include "io/text_source.h"

namespace ringbolt {
namespace {

struct GenerateOptions {
  ModelOptions model;
  UntunedPositions positions;
  std::string tokenizer;
  std::string prompt;
  std::optional<std::string> prompt_file;
  int64_t max_tokens = 256;
  SamplingOptions sampling;
  int64_t seed = 1;
  DeviceOptions device;
  OutputOptions out;

  void declare(OptionSet& options) {
    model.declare(options);
    positions.declare(options);
    options
        .add("tokenizer", "FILE|bytes", tokenizer,
             "A SentencePiece model, a folder with tokenizer.model, or bytes")
        .required();
    options.group("Text");
    options.add("prompt", "TEXT", prompt, "What the text begins with; nothing begins a new text");
    options.add("prompt-file", "FILE", prompt_file, "The same from a file; - is standard input");
    options.conflicts("prompt", "prompt-file", "there is one prompt");
    options
        .add("max-tokens", "N", max_tokens,
             "Tokens to add; a new text or the end of this one stops earlier")
        .at_least(1);
    options.group("Sampling");
    options
        .add("temperature", "T", sampling.temperature,
             "Logits are divided by it; 0 always takes the most likely token")
        .at_least(0);
    options.add("top-k", "K", sampling.top_k, "Only the K most likely tokens; 0 allows all");
    options
        .add("top-p", "P", sampling.top_p,
             "Only the most likely tokens that together have this probability")
        .above(0)
        .at_most(1);
    options.add("seed", "N", seed, "Another seed is another text");
    device.declare(options);
    out.declare(options);
    options.example(
        "generate --checkpoint run --tokenizer bytes --prompt 'Once upon a time' --max-tokens 200");
    options.example(
        "generate --checkpoint stories260K.bin --tokenizer tok512.model --temperature 0",
        "always the same text");
    options.example(
        "generate --checkpoint run --tokenizer bytes --prompt-file book.txt --rope-base 1e6 "
        "--max-tokens 100");
    options.example(
        "generate --checkpoint run --tokenizer tok.model --prompt-file long.txt --max-tokens 32 "
        "--position-map parallel-windows --parallel-query 64",
        "the prompt in windows of what the model was trained at");
  }
};

std::vector<int32_t> prompt_ids(const GenerateOptions& o, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  if (tokenizer.bos_id() >= 0) ids.push_back(tokenizer.bos_id());
  const std::vector<int32_t> text =
      o.prompt_file ? encode_input(tokenizer, {*o.prompt_file, -1}) : tokenizer.encode(o.prompt);
  ids.insert(ids.end(), text.begin(), text.end());
  if (ids.empty()) {
    throw UsageError(
        message("the prompt is empty",
                concat("the tokenizer ", tokenizer.name(), " has no <s> to begin with"),
                "Give a --prompt."));
  }
  return ids;
}

/// The prompt as the model reads it, and how it turns and sees its tokens.
struct Reading {
  std::vector<int32_t> ids;
  GrowingRotation rotation;
};

Reading read_prompt(const GenerateOptions& o, const LoadedModel& loaded, int32_t bos,
                    const std::vector<int32_t>& prompt) {
  const auto tokens = static_cast<int64_t>(prompt.size());
  Reading reading{prompt, loaded.growing_rotation()};
  if (const auto context = o.positions.parallel(loaded.config(), o.max_tokens)) {
    const ParallelWindows windows = parallel_windows(*context, tokens, bos >= 0);
    reading.ids = with_window_starts(prompt, windows, bos);
    reading.rotation.windows = windows;
  }
  reading.rotation.tables =
      o.positions.map_positions(std::move(reading.rotation.tables), tokens + o.max_tokens,
                                loaded.config(), reading.rotation.windows);
  return reading;
}

/// The text as it comes: to standard output, and kept for the result.
class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, bool prints) : decoder_(tokenizer), prints_(prints) {}

  /// The prompt sets the decoder's state; it is shown, too.
  void push(int32_t id) { put(decoder_.push(id)); }
  void finish() {
    put(decoder_.finish());
    // A terminal's next prompt begins a line; a file holds the text and nothing else.
    if (prints_ && isatty(STDOUT_FILENO) != 0) std::cout << '\n';
    std::cout << std::flush;
  }
  const std::string& text() const { return text_; }

 private:
  void put(const std::string& piece) {
    text_ += piece;
    if (prints_ && !piece.empty()) std::cout << piece << std::flush;
  }

  StreamingDecoder decoder_;
  bool prints_;
  std::string text_;
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

int run_generate(const Arguments& arguments) {
  GenerateOptions o;
  OptionSet options("generate", "Continues a prompt and prints the text as it comes.");
  o.declare(options);
  if (!options.parse(arguments, std::cout)) return 0;
  o.sampling.seed = static_cast<uint64_t>(o.seed);
  validate(o.sampling);

  const std::unique_ptr<Backend> backend = o.device.make_backend();
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(o.tokenizer);
  LoadedModel loaded(*backend, o.model);
  require_vocabulary("the tokenizer " + tokenizer->name(), tokenizer->vocab_size(),
                     loaded.config());
  const std::vector<int32_t> prompt = prompt_ids(o, *tokenizer);
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  Reading reading = read_prompt(o, loaded, tokenizer->bos_id(), prompt);
  const auto capacity = static_cast<int64_t>(reading.ids.size()) + o.max_tokens;
  Generator generator(*backend, loaded.model(), o.model.dtype, std::move(reading.rotation),
                      capacity);

  TextStream stream(*tokenizer, !json_is_output(o.out.json));
  for (const int32_t id : prompt) stream.push(id);
  Json ids = Json::array();
  const auto begin = std::chrono::steady_clock::now();
  double first_token_seconds = 0;
  generator.run(reading.ids, o.max_tokens, o.sampling, [&](int32_t id) {
    if (ids.size() == 0) first_token_seconds = seconds_since(begin);
    if (id == tokenizer->bos_id() || id == tokenizer->eos_id()) return false;
    ids.push(id);
    stream.push(id);
    return true;
  });
  stream.finish();
  const double seconds = seconds_since(begin);
  const auto generated = static_cast<int64_t>(ids.size());
  const double rate =
      generated > 1 ? static_cast<double>(generated - 1) / (seconds - first_token_seconds) : 0;
  if (o.out.progress != ProgressChoice::none) {
    std::cerr << "prompt of " << prompt_tokens << " tokens in "
              << format_duration(first_token_seconds) << ", then " << generated << " tokens at "
              << format_rate(rate) << " tokens/s\n";
  }
  Json result = begin_result("generate");
  result.set("checkpoint", o.model.checkpoint)
      .set("device", backend->description())
      .set("position_map", o.positions.name())
      .set("prompt_tokens", prompt_tokens)
      .set("ids", ids)
      .set("text", stream.text())
      .set("first_token_seconds", first_token_seconds)
      .set("seconds", seconds)
      .set("tokens_per_second", rate);
  write_result(o.out.json, result);
  return 0;
}

}  // namespace ringbolt
