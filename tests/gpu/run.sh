#!/usr/bin/env bash
# Everything that wants a GPU, the most valuable first, within a time limit: tests, then figures. Raw JSON and logs are kept.
#
#   bash tests/gpu/run.sh [--seconds N] [--out DIR] [--root DIR] [STEP…]     (default 1500, gpu-results, where it lies)
#
# ROOT is a build tree (build/cuda) or what tests/gpu/pack.sh packed. STEPs are names from the list below; none is all. Each
# step writes DIR/STEP.log and what JSON it has; DIR/summary.json says how each ended. When the time is up the step at work is
# ended, what it wrote is kept, the rest is marked "no time". SIGTERM and SIGINT do the same. Exit status: 0 if no step
# failed, 1 if one did, 77 without a GPU.
# shellcheck disable=SC2317  # steps are called by name
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seconds=1500 out=gpu-results root='' wanted=()
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    --root) root=$2 && shift 2 ;;
    -*) echo "unknown option $1 (there are --seconds, --out, --root). See the head of $0." >&2 && exit 2 ;;
    *) wanted+=("$1") && shift ;;
  esac
done

# --- where the programs are ---------------------------------------------------------------------------------------------
for guess in "$root" "$here/.." "$here/../../build/cuda"; do
  if [ -n "$guess" ] && { [ -x "$guess/bin/ringbolt" ] || [ -x "$guess/apps/ringbolt" ]; }; then root=$guess && break; fi
done
program() {  # the path of a program in a pack or in a build tree
  local place
  for place in "$root/bin/$1" "$root/apps/$1" "$root/tests/core/$1" "$root/tests/parallel/$1" "$root/tests/benchmarks/$1"; do
    if [ -x "$place" ]; then echo "$place" && return; fi
  done
  echo "/missing/$1"
}
[ -x "$(program ringbolt)" ] || { echo "no ringbolt under '$root' (neither a build tree nor a pack). Use --root." >&2 && exit 2; }
if [ -d "$root/lib" ] && [ -x "$root/bin/ringbolt" ]; then  # a pack: its libraries, then the machine's CUDA
  path=$root/lib
  for place in /usr/local/cuda/lib64 /usr/local/lib/python3*/*-packages/nvidia/*/lib /usr/lib/python3*/*-packages/nvidia/*/lib; do
    if [ -d "$place" ]; then path=$path:$place; fi
  done
  export LD_LIBRARY_PATH=$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
mkdir -p "$out" && out=$(cd "$out" && pwd)

# --- steps --------------------------------------------------------------------------------------------------------------
ringbolt=$(program ringbolt)
large() {  # the model that fits the GPU, with its training state
  local gib=0
  if command -v nvidia-smi >/dev/null; then
    gib=$(($(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits -i 0 2>/dev/null | head -n 1 || echo 0) / 1024))
  fi
  if [ "$gib" -ge 130 ]; then echo llama2-7b; else echo llama2-7b,layers=12; fi
}

step_device() {
  if command -v nvidia-smi >/dev/null; then nvidia-smi && nvidia-smi -q -d CLOCK,POWER,ECC; fi
  "$ringbolt" info --device cuda --json "$out/device.json" && "$ringbolt" info --device cuda
}
step_operations() { "$(program backend_test)" --gtest_filter='*/cuda_*' --gtest_output="json:$out/operations.json"; }
step_attention() { "$(program cuda_attention_benchmark)" 1 | tee "$out/attention.jsonl"; }
step_training() {
  "$ringbolt" bench --device cuda --what step --dtype bf16 --model "$(large)" --context-length 16K \
    --recompute block-keep-attention --seconds 20 --progress none --json "$out/training.json" && cat "$out/training.json"
}
million_tokens() {  # name, model: of random weights, forward, for time and memory
  "$ringbolt" bench --device cuda --what forward --dtype bf16 --model "$2" --context-length 1M --seconds 0.5 --progress lines \
    --json "$out/$1.json" && cat "$out/$1.json"
}
step_forward() { million_tokens forward llama2-7b,layers=2; }
step_forward_whole() { million_tokens forward_whole llama2-7b; }
whole_forward_seconds() {  # 32 layers as the step `forward` found them, and what is around them
  local layer
  layer=$(sed -n 's/.*"layer_median_seconds": \([0-9]*\).*/\1/p' "$out/forward.json" 2>/dev/null)
  echo $(((${layer:-14} + 1) * 32 + 30))
}
step_model() { "$(program model_test)" --gtest_filter='*/cuda_*' --gtest_output="json:$out/model.json"; }
step_rowwise() {
  "$ringbolt" bench --device cuda --what rowwise --model llama2-7b --context-length 16K --seconds 0.3 --progress none \
    --json "$out/rowwise.json" && cat "$out/rowwise.json"
}
step_matmul() {
  "$ringbolt" bench --device cuda --what matmul --seconds 0.5 --progress none --json "$out/matmul.json" && cat "$out/matmul.json"
}
step_text() {  # greedy text of a small published model: the CPU's and the GPU's must be one
  local data=${RINGBOLT_DATA:-$here/../../../shared/data} device
  local model=$data/checkpoints/stories260K.bin
  if [ ! -f "$model" ]; then echo "$model is not here (RINGBOLT_DATA names the folder)" && return 77; fi
  for device in cpu cuda; do
    "$ringbolt" generate --device "$device" --checkpoint "$model" --tokenizer "$data/tokenizers/tok512" --prompt "Once upon a time" \
      --max-tokens 200 --temperature 0 >"$out/text-$device.txt" || return 1
  done
  cat "$out/text-cuda.txt" && cmp "$out/text-cpu.txt" "$out/text-cuda.txt"
}
step_fp8() {  # what fp8 attention costs in loss, on the GPU and on the CPU, which rounds alike
  local data=${RINGBOLT_DATA:-$here/../../../shared/data} dtype device
  local model=$data/checkpoints/babyllama_tok105_model5000.bin
  if [ ! -f "$model" ]; then echo "$model is not here (RINGBOLT_DATA names the folder)" && return 77; fi
  for dtype in bf16 fp8-output fp8; do
    for device in cpu cuda; do
      "$ringbolt" evaluate --device "$device" --checkpoint "$model" --tokenizer "$data/tokenizers/tok105/tok105.model" \
        --text "$data/text/tinystories/tinystories_val_v1.txt" --context-lengths 256,1K,4K --tokens-per-length 64K \
        --dtype bf16 --attention-dtype "$dtype" --progress none --json "$out/fp8-$dtype-$device.json" ||
        { [ "$dtype" = fp8 ] && [ "$device" = cuda ] && echo "(from compute capability 10.0 on)"; } || return 1
    done
  done
}
step_sanitizer() {
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not installed" && return 77; }
  compute-sanitizer --error-exitcode 9 "$(program backend_test)" \
    --gtest_filter='*/cuda_*:-*4096*:*Deterministic*' --gtest_brief=1
}
step_ranks() {  # rings of 1 to 4 on the one GPU, as threads and as processes, and NCCL with one rank
  "$(program device_ranks_test)" --gtest_filter='*cuda*:*NcclOnAGpu*' --gtest_output="json:$out/ranks.json" || return 1
  command -v mpirun >/dev/null || { echo "mpirun is not installed: ranks as processes were not tried" && return 0; }
  local n
  for n in 1 2 3 4; do
    mpirun --oversubscribe --allow-run-as-root -np "$n" "$(program device_mpi_test)" --gtest_filter='*cuda*' || return 1
  done
}
step_ring() {  # a zigzag ring of 4 with 8K tokens a rank beside one call for the same work, on one GPU
  "$ringbolt" bench --device cuda --what ring --local-ranks 4 --one-rank --attention-lengths 32K --head-dims 128 --heads 32 \
    --kv-heads 8 --dtype bf16 --seconds 5 --progress none --json "$out/ring.json" && cat "$out/ring.json"
}
ten_steps() {  # of the command, with the options in `extra`; the losses go into a file
  local name=$1 text=$out/text.h5
  [ -f "$text" ] || { for _ in 1 2 3 4 5 6; do cat "$here/run.sh" "$here/README.md"; done >"$out/text.txt" &&
    "$ringbolt" tokenize --tokenizer bytes --progress none --output "$text" "$out/text.txt" >/dev/null; } || return 1
  rm -rf "$out/run-$name"
  "$ringbolt" train --device cuda --model dim=256,layers=4,heads=8,kv-heads=4,vocab=512 --tokens "$text" --context-length 1K --steps 10 \
    --dtype bf16 --seed 3 --progress none --output "$out/run-$name" "${extra[@]}" >/dev/null || return 1
  grep -o '"loss":[0-9.]*' "$out/run-$name/metrics.jsonl" | cut -d: -f2 >"$out/losses-$name"
}
step_ranks_training() {  # ten steps on 1, 2 and 4 ranks, by copies and (one rank) by NCCL: losses within 1 %
  local extra=() name
  ten_steps one || return 1
  extra=(--local-ranks 2) && ten_steps two || return 1
  extra=(--local-ranks 4) && ten_steps four || return 1
  extra=(--communicator nccl) && ten_steps nccl || return 1
  for name in two four nccl; do
    paste "$out/losses-one" "$out/losses-$name"
    paste "$out/losses-one" "$out/losses-$name" | awk 'BEGIN {bad = 1} {d = ($1 - $2) / $1; if (d < 0) d = -d; n++; if (d > 0.01) worse++}
      END {exit !(n == 10 && !worse)}' || { echo "$name differs from one rank" && return 1; }
  done
}
step_ranks_sanitizer() {
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not installed" && return 77; }
  local tool
  for tool in memcheck racecheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 9 "$(program device_ranks_test)" \
      --gtest_filter='*AttentionMatches*cuda_on[23]:*PassesBlocks*cuda*On2' --gtest_brief=1 || return 1
  done
}
step_ring_profile() {  # time by kind: attention, merges, copies, and what is none of them
  command -v nsys >/dev/null || { echo "nsys is not installed" && return 77; }
  nsys profile --force-overwrite true --output "$out/ring" "$ringbolt" bench --device cuda --what ring --local-ranks 4 \
    --attention-lengths 32K --head-dims 128 --heads 32 --kv-heads 8 --dtype bf16 --seconds 1 --progress none &&
    nsys stats --report cuda_gpu_kern_sum --format csv "$out/ring.nsys-rep" >"$out/ring-kernels.csv" &&
    nsys stats --report cuda_gpu_mem_time_sum --format csv "$out/ring.nsys-rep" >"$out/ring-copies.csv"
}
step_peer() {  # the same model's step in PyTorch, with the best attention installed there
  python3 -c 'import torch' 2>/dev/null || { echo "PyTorch is not installed" && return 77; }
  python3 "$here/peer_step.py" --layers "$([ "$(large)" = llama2-7b ] && echo 32 || echo 12)" --context 16384 \
    --out "$out/peer.json"
}
step_profile() {
  command -v nsys >/dev/null || { echo "nsys is not installed" && return 77; }
  nsys profile --force-overwrite true --output "$out/step" "$ringbolt" bench --device cuda --what step --dtype bf16 \
    --model llama2-7b,layers=4 --context-length 16K --recompute block-keep-attention --seconds 1 --progress none &&
    nsys stats --report cuda_gpu_kern_sum --format csv "$out/step.nsys-rep" >"$out/kernels.csv"
}
readonly steps=(device operations attention training forward ranks ring ranks_training model rowwise matmul text fp8 peer sanitizer
  ranks_sanitizer profile ring_profile forward_whole)

# --- running them -------------------------------------------------------------------------------------------------------
entries='' status_of_all=0 child=''
record() {  # name status seconds
  entries+="${entries:+,}"$'\n'"  {\"step\":\"$1\",\"status\":\"$2\",\"seconds\":$3}"
  printf '{"limit_seconds":%d,"steps":[%s\n]}\n' "$seconds" "$entries" >"$out/summary.json"
  printf '%-12s %-10s %4d s\n' "$1" "$2" "$3"
}
stopping=no
stop() {
  stopping=yes
  if [ -n "$child" ]; then kill -TERM -- "-$child" 2>/dev/null; fi
}
trap stop TERM INT

# Ends a step's whole process group where the time is up: TERM, then KILL.
run_step() {
  local name=$1 began=$SECONDS status left=$((seconds - SECONDS)) least=5 most watch
  case $name in training | forward | peer | sanitizer | ranks | ranks_sanitizer) most=$((seconds * 2 / 5)) ;; *) most=$seconds ;; esac  # none takes it all
  if [ "$left" -gt "$most" ]; then left=$most; fi
  if [ "$name" = forward_whole ]; then least=$(whole_forward_seconds); fi  # half of it is no figure
  if [ "$left" -lt "$least" ] || [ "$stopping" = yes ]; then record "$name" "no time" 0 && return; fi
  set -m
  (step_"$name") >"$out/$name.log" 2>&1 </dev/null &
  child=$!
  (sleep "$left" && kill -TERM -- "-$child" 2>/dev/null && sleep 10 && kill -KILL -- "-$child" 2>/dev/null) >/dev/null 2>&1 &
  watch=$!
  set +m
  while wait "$child"; status=$?; kill -0 "$child" 2>/dev/null; do :; done  # a signal ends `wait`, not the step
  child=''
  kill -- "-$watch" 2>/dev/null
  wait "$watch" 2>/dev/null
  case $status in
    0) record "$name" passed $((SECONDS - began)) ;;
    77) record "$name" skipped $((SECONDS - began)) ;;
    *) if [ $((SECONDS - began)) -ge "$left" ] || [ "$stopping" = yes ]; then
         record "$name" "cut off" $((SECONDS - began))
       else
         record "$name" failed $((SECONDS - began)) && status_of_all=1 && tail -n 15 "$out/$name.log"
       fi ;;
  esac
}

if ! "$ringbolt" info --device cuda >"$out/device.log" 2>&1; then
  cat "$out/device.log" >&2
  echo "nothing was checked: there is no GPU here"
  exit 77
fi
for name in "${steps[@]}"; do
  if [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $name "* ]]; then run_step "$name"; fi
done
echo "results in $out"
exit $status_of_all
