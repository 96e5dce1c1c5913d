#!/usr/bin/env bash
# How far does a model reach after a short tuning with each rotary method?
#
#   bash apps/tuned_reach.sh CHECKPOINT TOKENIZER TRAINING-TEXT HELD-OUT-TEXT [OUT]
#
# Tunes the checkpoint with each method twice: at its own length, and with PoSE at positions up to 4x of it. Evaluates both
# from 1x to 16x on held-out text and prints two tables of losses, a line a method; OUT (default tuned-reach) gets the runs
# and a JSON file for each. The ranking is what comes out.
# TRAINED=256 is the training length, STEPS=200 the steps of each tuning, TOKENS=16K the targets of each length,
# KINDS="own pose" and METHODS="plain yarn-4 …" which to run (default: all). A second call goes on where one stopped.
set -euo pipefail

checkpoint=${1:?usage: tuned_reach.sh CHECKPOINT TOKENIZER TRAINING-TEXT HELD-OUT-TEXT [OUT]}
tokenizer=${2:?name a tokenizer}
training_text=${3:?name a text to train on}
text=${4:?name a text to evaluate on}
out=${5:-tuned-reach}
trained=${TRAINED:-256}
steps=${STEPS:-200}
kinds=${KINDS:-own pose}
. "$(dirname "$0")/reach_common.sh"

options_of() {  # METHOD
  case $1 in
    plain) ;;
    base-1e6) echo --rope-base 1e6 ;;
    yarn-4-resonance) echo --rope-method yarn --rope-factor 4 --rope-resonance ;;
    dynamic-ntk) echo --rope-method dynamic --rope-factor 2 ;;
    dynamic-*) echo --rope-method "$1" ;;
    *) echo --rope-method "${1%-*}" --rope-factor "${1##*-}" ;;
  esac
}
# longrope is absent: it has no lists of factors of its own, a search makes them for each model.
methods=${METHODS:-plain base-1e6 linear-4 ntk-4 ntk-by-parts-4 part-ntk-4 yarn-4 yarn-4-resonance llama3-4 dprope-4
  dynamic-ntk dynamic-yarn clex-4 clex-16}

tune() {  # NAME OPTIONS…
  local run="$out/runs/$1"
  shift
  [ -e "$run/done" ] && return
  rm -rf "$run"
  "$ringbolt" train --checkpoint "$checkpoint" --tokens "$out/tokens.h5" --context-length "$trained" --steps "$steps" \
    --batch-size 8 --learning-rate 2e-4 --warmup-steps $((steps / 20)) --progress none --output "$run" "$@" > /dev/null
  touch "$run/done"
}

[ -s "$out/tokens.h5" ] || "$ringbolt" tokenize --tokenizer "$tokenizer" --output "$out/tokens.h5" "$training_text" > /dev/null
for kind in $kinds; do
  map=()
  [ "$kind" = pose ] && map=(--position-map pose --position-reach $((4 * trained)))
  for method in $methods; do
    # shellcheck disable=SC2046  # several words are meant
    tune "$method-$kind" $(options_of "$method") "${map[@]}"
    evaluate_model "$out/runs/$method-$kind" "$method-$kind"
  done
done

for kind in $kinds; do
  echo
  table_of "tuned: $kind" "$out"/*-"$kind".json
done
