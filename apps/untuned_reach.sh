#!/usr/bin/env bash
# How far does a model reach without any tuning, under each training-free rotary method?
#
#   bash apps/untuned_reach.sh CHECKPOINT TOKENIZER TEXT [OUT]
#
# Evaluates the checkpoint from 1x to 16x its training length on the same text under every method and prints one table of
# losses, a line a method; OUT (default untuned-reach) gets a JSON file for each. The ranking is what comes out.
# TRAINED=256 is the training length, TOKENS=16K the targets of each length, FACTORS="4 16" those of the fixed methods.
set -euo pipefail

checkpoint=${1:?usage: untuned_reach.sh CHECKPOINT TOKENIZER TEXT [OUT]}
tokenizer=${2:?name a tokenizer}
text=${3:?name a text file}
out=${4:-untuned-reach}
trained=${TRAINED:-256}
factors=${FACTORS:-4 16}
. "$(dirname "$0")/reach_common.sh"

evaluate() { evaluate_model "$checkpoint" "$@"; }  # NAME OPTIONS…

evaluate plain
evaluate log-scaled --rope-log-scale clipped
evaluate dynamic-linear --rope-method dynamic-linear
evaluate dynamic-ntk --rope-method dynamic --rope-factor 2
evaluate dynamic-yarn --rope-method dynamic-yarn
evaluate dynamic-yarn-resonance --rope-method dynamic-yarn --rope-resonance
evaluate clex-untrained --rope-method clex --rope-factor 16
for s in $factors; do
  for method in linear ntk ntk-mixed ntk-by-parts part-ntk yarn llama3 dprope; do
    evaluate "$method-$s" --rope-method "$method" --rope-factor "$s"
  done
done
evaluate grouped-positions --position-map grouped
evaluate recurrent-positions --position-map recurrent
# Scores the last quarter of the training length only, where all windows are seen: not the text of the others.
evaluate parallel-windows-query --position-map parallel-windows
window=$((trained / 2))
evaluate self-extend --rope-method self-extend --rope-window "$window" --rope-group 32
evaluate rerope --rope-method rerope --rope-window "$window"
evaluate leaky-rerope --rope-method leaky-rerope --rope-window "$window" --rope-factor 16

echo
table_of method "$out"/*.json
