#!/usr/bin/env bash
# What ringbolt plan predicts against what ringbolt train measures, on this machine's CPU: 1 and 2 ranks, two lengths, every
# strategy that train can be told. The prediction is made anew beside each run, as shared machines change.
#
#   bash tests/benchmarks/plan_check.sh [MODEL]          (default 15m; LENGTHS="2K 4K", STEPS=6, DTYPE=f32)
#
# Timings: run it while nothing else does. Nothing is asserted.
set -euo pipefail

model=${1:-15m}
lengths=${LENGTHS:-2K 4K}
steps=${STEPS:-6}
dtype=${DTYPE:-f32}
here=$(cd "$(dirname "$0")/../.." && pwd)
ringbolt=${RINGBOLT:-$here/build/cpu/apps/ringbolt}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# (head ends the pipe before cat is through.)
{ find /usr/include -name '*.h*' -print0 | sort -z | xargs -0 cat 2> /dev/null || true; } | head -c 2000000 > "$work/text"
"$ringbolt" tokenize --tokenizer bytes --input "$work/text" --output "$work/tokens.h5" --progress none > /dev/null

# Seconds that plan says: RANKS LENGTH ATTENTION, as its table names it
predicted() {
  "$ringbolt" plan --measure --local-ranks "$1" --model "$model" --dtype "$dtype" --device cpu --shard optimizer \
    --context-lengths "$2" --all-strategies |
    awk -F '  +' -v wanted="$3" '$4 == wanted { print $5; exit }'
}

# Median seconds of a step, without the first: RANKS LENGTH OPTIONS…
measured() {
  local ranks=$1 length=$2
  shift 2
  rm -rf "$work/run"
  "$ringbolt" train --model "$model" --tokens "$work/tokens.h5" --context-length "$length" --batch-size 1 --dtype "$dtype" \
    --steps "$steps" --recompute block-keep-attention --local-ranks "$ranks" --shard-state optimizer --output "$work/run" \
    --progress none "$@" > /dev/null
  sed -n 's/.*"step_seconds":\([0-9.e-]*\).*/\1/p' "$work/run/metrics.jsonl" | tail -n +2 | sort -g |
    awk '{ s[NR] = $1 } END { print s[int((NR + 1) / 2)] }'
}

row() {  # RANKS LENGTH ATTENTION OPTIONS…
  local ranks=$1 length=$2 attention=$3
  shift 3
  local before after seconds
  before=$(predicted "$ranks" "$length" "$attention")
  seconds=$(measured "$ranks" "$length" "$@")
  after=$(predicted "$ranks" "$length" "$attention")
  awk -v n="$length" -v p="$ranks" -v name="$attention" -v x="$before" -v y="$after" -v m="$seconds" \
    'BEGIN { e = (x + y) / 2; printf "%-8s %5d  %-28s %10.3f %10.3f %+8.1f %%\n", n, p, name, e, m, 100 * (e / m - 1) }'
}

printf '%-8s %5s  %-28s %10s %10s %8s\n' context ranks attention 'predicted' 'measured s' off
for length in $lengths; do
  row 1 "$length" 'one rank'
  row 2 "$length" 'ring 2' --attention ring --ring-backward keys
  row 2 "$length" 'ring 2, queries in backward' --attention ring --ring-backward queries
  row 2 "$length" 'all-gather 2' --attention all-gather
  row 2 "$length" 'all-to-all 2' --head-ranks 2
done
