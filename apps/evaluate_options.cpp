#include "apps/evaluate_options.h"

#include "core/base/error.h"
#include "core/model/pieces.h"

namespace ringbolt {
namespace {

void declare_reach(OptionSet& options, EvaluateOptions& e) {
  options.group("Predicted reach");
  options
      .add("pretraining-base", "B", e.pretraining_base,
           "Rotary base that the model was pre-trained with")
      .above(1)
      .by_default("the checkpoint's");
  options
      .add("pretraining-length", "N", e.pretraining_length,
           "Context length that it was pre-trained with")
      .at_least(7)
      .by_default("the checkpoint's");
  options.add("plot", "FILE.svg", e.plot,
              "Draws loss against context length, the predicted reach marked");
  options.add("compare", "FILE.json", e.compare,
              "Earlier results of evaluate --json, to show and draw beside this one");
}

}  // namespace

void EvaluateOptions::declare(OptionSet& options) {
  model.declare(options);
  positions.declare(options);
  options.group("Text");
  options.add("text", "FILE", text, "A text file, encoded as one document; - is standard input");
  options.add("tokens", "FILE", tokens, "Or a token file, made by ringbolt tokenize");
  options.one_of({"text", "tokens"}, "something must be evaluated");
  options.add("tokenizer", "FILE|bytes", tokenizer,
              "For --text: a SentencePiece model, a folder with tokenizer.model, or bytes");
  options.needs("text", "tokenizer", "text must become tokens");
  options.add("bos-id", "N", bos_id, "The token that begins each window")
      .by_default("the tokenizer's <s>, else 1");
  options.group("Protocol");
  options
      .add("context-lengths", "LIST", context_lengths,
           "Tokens of a window, one result each: 128,512,1K")
      .at_least(1)
      .by_default("the model's context length");
  options.add("windows", "N", windows, "At most so many windows a length; 0 takes all of the text");
  options.add("tokens-per-length", "N", tokens_per_length,
              "Or as many windows as hold so many targets, the same text at every length");
  options.conflicts("windows", "tokens-per-length", "both say how much text is used");
  options.add("stride", "N", stride,
              "Tokens from one window to the next; 0 is the window's length (no overlap)");
  options.flag("score-overlap", score_overlap,
               "Overlapping windows score again what an earlier one scored");
  options.needs("score-overlap", "stride", "without it windows do not overlap");
  options.add("buckets", "N", buckets, "Parts of a window by position, each with a loss of its own")
      .at_least(1);
  options
      .add("piece-tokens", "N", piece_tokens,
           "Tokens that pass at a time through projections, feed-forward and head; what attention "
           "holds of a window is the same")
      .at_least(1)
      .by_default(concat(kPieceTokens, ", fewer where memory is short"));
  declare_attention_dtype(options, attention_dtype);
  declare_reach(options, *this);
  mesh.declare(options, StorePurpose::inference);
  device.declare(options);
  out.declare(options);
  options.example(
      "evaluate --checkpoint run --tokens validation.h5 --context-lengths 128,256,512,1K "
      "--tokens-per-length 64K");
  options.example(
      "evaluate --checkpoint stories260K.bin --tokenizer tok512.model --text stories.txt "
      "--context-lengths 512,1K --windows 32");
  options.example(
      "evaluate --checkpoint run --tokens validation.h5 --rope-base 1e6 --json large-base.json");
  options.example(
      "evaluate --checkpoint run --tokens validation.h5 --context-lengths 16K,128K --local-ranks 2",
      "split each window over two ranks, threads of this process");
  options.example(
      "evaluate --checkpoint run --tokens validation.h5 --context-lengths 1K,4K --position-map "
      "parallel-windows --stride 64 --parallel-query 64",
      "the context in windows; every target is scored once, as the query's");
  options.example(
      "evaluate --checkpoint run --tokens validation.h5 --context-lengths 1M --windows 1",
      "a layer at a time over the whole window: memory is a layer's, whatever their number");
  options.example(
      "evaluate --checkpoint run --tokens validation.h5 --context-lengths 16K --attention-dtype "
      "fp8",
      "what the loss is with attention in fp8");
  options.example(
      "evaluate --checkpoint run --tokens validation.h5 --compare large-base.json --plot "
      "reach.svg");
}

}  // namespace ringbolt
