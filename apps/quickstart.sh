#!/usr/bin/env bash
# From nothing to a picture of how far a model reaches, in minutes on two cores.
#
#   bash apps/quickstart.sh [FOLDER]     results go to FOLDER (default: quickstart/ beside the sources)
#
# Installs what is missing, builds, then: makes a token file of the C++ headers under /usr/include (bytes are the tokens),
# trains a small model at context length 256, fine-tunes it at two rotary bases on two ranks that share each sequence (ring
# attention; a second rank where there is a second core is no slower), and evaluates both from 1x to 16x that length. Shows a table and draws loss against context length, with the reach that theory predicts. A second run uses what
# the first built and starts its training over.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${1:-$root/quickstart}

readonly context=256 lengths=256,512,1K,2K,4K
readonly small_base=1e4 large_base=1e6 ranks=2

say() { printf '\n== %s\n' "$*"; }

build() {
  say "Building"
  bash "$root/cmake/setup.sh"
  (cd "$root" && cmake --preset cpu >/dev/null && cmake --build --preset cpu --target ringbolt)
}

# Headers are text that any machine with a compiler has: every 16th of Boost's, one in twelve of them held out.
corpus() {
  say "Corpus: C++ headers, bytes as tokens"
  find /usr/include/boost -name '*.hpp' | LC_ALL=C sort | awk 'NR % 16 == 0' >"$out/headers.txt"
  awk 'NR % 12 != 0' "$out/headers.txt" >"$out/train.txt"
  awk 'NR % 12 == 0' "$out/headers.txt" >"$out/held-out.txt"
  for part in train held-out; do
    xargs -a "$out/$part.txt" "$ringbolt" tokenize --tokenizer bytes --output "$out/$part.h5" --input
  done
}

pretrain() {
  say "Training from scratch: context $context, rotary base 1e4"
  "$ringbolt" train --model dim=128,layers=4,heads=4,ffn=352,vocab=259 --tokens "$out/train.h5" \
    --validation-tokens "$out/held-out.h5" --context-length $context --rope-base 1e4 --batch-size 16 --steps 240 \
    --learning-rate 2e-3 --schedule cosine --warmup-steps 20 --min-learning-rate 2e-4 --evaluate-every 80 \
    --output "$out/pretrained"
}

tune() {
  say "Fine-tuning on $ranks ranks: context $context, rotary base $1"
  "$ringbolt" train --checkpoint "$out/pretrained" --tokens "$out/train.h5" --context-length $context --rope-base "$1" \
    --batch-size 16 --steps 60 --learning-rate 5e-4 --schedule linear --warmup-steps 5 --local-ranks $ranks \
    --output "$out/base-$1"
}

evaluate() {
  say "Loss from 1x to 16x the tuning length: rotary base $1"
  "$ringbolt" evaluate --checkpoint "$out/base-$1" --tokens "$out/held-out.h5" --context-lengths $lengths \
    --tokens-per-length 32K --json "$out/base-$1.json" "${@:2}"
}

build
ringbolt=$root/build/cpu/apps/ringbolt
mkdir -p "$out"
rm -rf "$out/pretrained" "$out/base-$small_base" "$out/base-$large_base"  # else train refuses to write over a run
corpus
pretrain
tune $small_base
tune $large_base
evaluate $small_base
evaluate $large_base --compare "$out/base-$small_base.json" --plot "$out/reach.svg"
say "Done: $out/reach.svg shows how far each model reaches"
