# Shared by untuned_reach.sh and tuned_reach.sh, which source it: evaluations that a second call skips, and their table.
#
# Expects: tokenizer, text (held out), out (folder of results), trained (the training length in tokens).
# Sets: ringbolt (the program), lengths (1x to 16x the training length).
# TOKENS=16K are the targets of each length, RINGBOLT another program than that of this source tree.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ringbolt=${RINGBOLT:-$here/build/cpu/apps/ringbolt}
lengths="$trained,$((2 * trained)),$((4 * trained)),$((8 * trained)),$((16 * trained))"
mkdir -p "$out"

evaluate_model() {  # CHECKPOINT NAME OPTIONS…
  local checkpoint=$1 name=$2
  shift 2
  [ -s "$out/$name.json" ] && return  # a second call goes on where the first one stopped
  echo "$name" >&2
  "$ringbolt" evaluate --checkpoint "$checkpoint" --tokenizer "$tokenizer" --text "$text" --context-lengths "$lengths" \
    --tokens-per-length "${TOKENS:-16K}" --progress none --json "$out/$name.json" "$@" > /dev/null
}

table_of() {  # HEADING FILE…: a line of losses for each result file, a column a length
  printf '%-24s' "$1"
  shift
  for length in ${lengths//,/ }; do printf '%10s' "$length"; done
  echo
  for file in "$@"; do
    printf '%-24s' "$(basename "$file" .json)"
    sed -n '/"lengths"/,$p' "$file" | awk '/"context_length"/ { inside = 1 } inside && /"loss"/ { gsub(/[^0-9.eE+-]/, "", $2); printf "%10.4f", $2; inside = 0 }'
    echo
  done
}
