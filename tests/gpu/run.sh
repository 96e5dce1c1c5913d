#!/usr/bin/env bash
# Everything that wants a GPU, the most valuable first, within a time limit: tests, then figures. Raw JSON and logs are kept.
#
#   bash tests/gpu/run.sh [--seconds N] [--out DIR] [--root DIR] [STEP…]     (default 1500, gpu-results, where it lies)
#   bash tests/gpu/run.sh --rehearse [--root build/emulated] […]             the same command lines, tiny, on the emulated device
#
# ROOT is a build tree (build/cuda) or what tests/gpu/pack.sh packed. STEPs are names from the list below; none is all. Each
# step writes DIR/STEP.log and what JSON it has; DIR/summary.json says how each ended. When the time is up the step at work is
# ended, what it wrote is kept, the rest is marked "no time". SIGTERM and SIGINT do the same. Exit status: 0 if no step
# failed, 1 if one did, 77 without a GPU. A rehearsal shows that the steps run, and nothing of a GPU: its figures mean nothing,
# and its summary says that it is one.
# shellcheck disable=SC2317  # steps are called by name
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seconds=1500 out='' root='' wanted=() rehearse=no
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    --root) root=$2 && shift 2 ;;
    --rehearse) rehearse=yes && shift ;;
    -*) echo "unknown option $1 (there are --seconds, --out, --root, --rehearse). See the head of $0." >&2 && exit 2 ;;
    *) wanted+=("$1") && shift ;;
  esac
done

# --- where the programs are ---------------------------------------------------------------------------------------------
if [ $rehearse = yes ]; then usual=emulated out=${out:-gpu-rehearsal}; else usual=cuda out=${out:-gpu-results}; fi
for guess in ${root:+"$root"} "$here/.." "$here/../../build/$usual"; do
  if [ "$guess" = "${root:-$guess}" ] && { [ -x "$guess/bin/ringbolt" ] || [ -x "$guess/apps/ringbolt" ]; }; then root=$guess && break; fi
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
for tool in awk cmp cut grep paste tee; do
  command -v "$tool" >/dev/null || { echo "$tool is not installed, which the steps need. Install it." >&2 && exit 2; }
done
mkdir -p "$out" && out=$(cd "$out" && pwd)
ringbolt=$(program ringbolt)
data=${RINGBOLT_DATA:-}  # small published models and texts
for guess in "$here/../data" "$here/../../shared/data" "$here/../../../shared/data"; do
  if [ -z "$data" ] && [ -d "$guess/checkpoints" ]; then data=$guess; fi
done

# --- sizes: a GPU's, or tiny ones ----------------------------------------------------------------------------------------
large() {  # the model that fits the GPU, with its training state
  local gib=0
  if command -v nvidia-smi >/dev/null; then
    gib=$(($(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits -i 0 2>/dev/null | head -n 1 || echo 0) / 1024))
  fi
  if [ "$gib" -ge 130 ]; then echo llama2-7b; else echo llama2-7b,layers=12; fi
}

if [ $rehearse = no ]; then
  device_name='cuda'      # in the names of its tests
  operation_tests='*/cuda_*:-*LargeTensors*' large_tests='*LargeTensors*/cuda_*' model_tests='*/cuda_*'
  rank_tests='*cuda*:*NcclOnAGpu*' mpi_rank_tests='*cuda*' mpi_ranks=(1 2 3 4)
  attention_shapes=(64 8 128 2048 8192 16384 32768)  # heads, for keys and values, head dimension, tokens…
  step_model=$(large) step_context=16K layer_model=llama2-7b layer_context=16K profile_model=llama2-7b,layers=4
  forward_model=llama2-7b,layers=2 whole_model=llama2-7b whole_layers=32 long_context=1M
  ring_shape=(--attention-lengths 32K --head-dims 128 --heads 32 --kv-heads 8)
  ring_model=dim=256,layers=4,heads=8,kv-heads=4,vocab=512 ring_context=1K
  graph_model=30m graph_context=512
  text_tokens=200 fp8_lengths=256,1K,4K fp8_tokens=64K
  peer_shape=(--layers "$([ "$step_model" = llama2-7b ] && echo 32 || echo 12)" --context 16384)
else
  device_name='emulated'
  large_tests='*LargeTensors*/emulated_*'  # which are skipped without a variable
  operation_tests='*/emulated_*:-*LargeTensors*:*EveryHeadDimension*:*LengthsOf*:*SequencesOf*:*SlicesOfEvery*:*AttentionWindow*:*InSeveralPasses*'
  model_tests='*EvaluationAndNextLogits*/emulated_*:*DecaysMatricesOnly*/emulated_*'
  rank_tests='*emulated_*On[12]:*EveryWay/emulated_on1:*OnACpu*:*NcclOnAGpu*' mpi_rank_tests='*emulated*' mpi_ranks=(1 2)
  attention_shapes=(4 2 16 128 256)
  step_model=dim=64,layers=2,heads=4,kv-heads=2,vocab=259 step_context=64
  layer_model=$step_model layer_context=64 profile_model=$step_model
  forward_model=$step_model whole_model=$step_model whole_layers=2 long_context=256
  ring_shape=(--attention-lengths 128 --head-dims 16 --heads 4 --kv-heads 2)
  ring_model=dim=32,layers=1,heads=2,kv-heads=1,vocab=259 ring_context=32
  graph_model=$step_model graph_context=64
  text_tokens=20 fp8_lengths=32,64 fp8_tokens=256
  peer_shape=(--device cpu --hidden 64 --layers 2 --context 64)
fi
seconds_of() { if [ "$rehearse" = yes ]; then echo 0.01; else echo "$1"; fi; }  # of a figure

# --- steps --------------------------------------------------------------------------------------------------------------
step_device() {
  if command -v nvidia-smi >/dev/null; then nvidia-smi && nvidia-smi -q -d CLOCK,POWER,ECC; fi
  "$ringbolt" info --device cuda --json "$out/device.json" && "$ringbolt" info --device cuda
}
tests() {  # program, filter, name of the JSON: skipped where all of them are
  "$(program "$1")" --gtest_filter="$2" --gtest_output="json:$out/$3.json" || return 1
  if ! grep -q '"result": "COMPLETED"' "$out/$3.json"; then echo "no test ran" && return 77; fi
}
step_operations() { tests backend_test "$operation_tests" operations; }
step_large() { tests backend_test "$large_tests" large; }
step_attention() {
  "$(program cuda_attention_benchmark)" "$(seconds_of 1)" "${attention_shapes[@]}" | tee "$out/attention.jsonl"
}
bench() {  # name, then options: a figure of the command
  local name=$1
  shift
  "$ringbolt" bench --device cuda --progress lines --json "$out/$name.json" "$@" && cat "$out/$name.json"
}
step_training() {
  bench training --what step --dtype bf16 --model "$step_model" --context-length "$step_context" \
    --recompute block-keep-attention --seconds "$(seconds_of 20)"
}
step_graph() {  # a small model at a short context, as it is and as a CUDA graph
  bench graph --what step --dtype bf16 --model "$graph_model" --context-length "$graph_context" --cuda-graph \
    --seconds "$(seconds_of 5)"
}
million_tokens() {  # name, model: of random weights, forward, for time and memory
  bench "$1" --what forward --dtype bf16 --model "$2" --context-length "$long_context" --seconds "$(seconds_of 0.5)"
}
step_forward() { million_tokens forward "$forward_model"; }
step_forward_whole() { million_tokens forward_whole "$whole_model"; }
whole_forward_seconds() {  # all layers as the step `forward` found them, and what is around them
  local layer
  layer=$(sed -n 's/.*"layer_median_seconds": \([0-9]*\).*/\1/p' "$out/forward.json" 2>/dev/null)
  echo $(((${layer:-14} + 1) * whole_layers + 30))
}
step_model() { tests model_test "$model_tests" model; }
step_rowwise() {
  bench rowwise --what rowwise --model "$layer_model" --context-length "$layer_context" --seconds "$(seconds_of 0.3)"
}
step_matmul() {
  bench matmul --what matmul --model "$layer_model" --context-length "$layer_context" --seconds "$(seconds_of 0.5)"
}
step_text() {  # greedy text of a small published model: the CPU's and the GPU's must be one
  local device model=$data/checkpoints/stories260K.bin
  if [ ! -f "$model" ]; then echo "stories260K.bin is not here (RINGBOLT_DATA names the folder)" && return 77; fi
  for device in cpu cuda; do
    "$ringbolt" generate --device "$device" --checkpoint "$model" --tokenizer "$data/tokenizers/tok512/tok512.model" \
      --prompt "Once upon a time" --max-tokens "$text_tokens" --temperature 0 >"$out/text-$device.txt" || return 1
  done
  cat "$out/text-cuda.txt" && cmp "$out/text-cpu.txt" "$out/text-cuda.txt"
}
within() {  # absolute and relative tolerance, how many there are, two files of numbers
  paste "$4" "$5"
  paste "$4" "$5" | awk -v absolute="$1" -v relative="$2" -v count="$3" '
    {d = $1 - $2; if (d < 0) d = -d; n++; if (!(d <= absolute + relative * $1)) worse++}
    END {exit !(n == count && !worse)}' || { echo "$5 is not near $4 ($3 numbers, within $1 + $2 of each)" && return 1; }
}
step_fp8() {  # what fp8 attention costs in loss, on the GPU and on the CPU, which rounds alike
  local dtype device model=$data/checkpoints/babyllama_tok105_model5000.bin lengths=${fp8_lengths//[!,]/}
  if [ ! -f "$model" ]; then echo "babyllama_tok105_model5000.bin is not here (RINGBOLT_DATA names the folder)" && return 77; fi
  for dtype in bf16 fp8-output fp8; do
    for device in cpu cuda; do
      "$ringbolt" evaluate --device "$device" --checkpoint "$model" --tokenizer "$data/tokenizers/tok105/tok105.model" \
        --text "$data/text/tinystories/tinystories_val_v1.txt" --context-lengths "$fp8_lengths" --tokens-per-length "$fp8_tokens" \
        --dtype bf16 --attention-dtype "$dtype" --progress none --json "$out/fp8-$dtype-$device.json" ||
        { [ "$dtype" = fp8 ] && [ "$device" = cuda ] && echo "(from compute capability 10.0 on)" && return 0; } || return 1
      grep -E '^ {6}"loss": ' "$out/fp8-$dtype-$device.json" | grep -oE '[0-9][0-9.e-]*' >"$out/fp8-$dtype-$device"
    done
    within 0.005 0 $((${#lengths} + 1)) "$out/fp8-$dtype-cpu" "$out/fp8-$dtype-cuda" || return 1
  done
}
step_sanitizer() {
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not installed" && return 77; }
  compute-sanitizer --error-exitcode 9 "$(program backend_test)" \
    --gtest_filter="*/${device_name}_*:-*4096*:*Deterministic*:*LargeTensors*" --gtest_brief=1
}
step_ranks() {  # rings of 1 to 4 on the one GPU, as threads and as processes, and NCCL with one rank
  tests device_ranks_test "$rank_tests" ranks || return
  command -v mpirun >/dev/null || { echo "mpirun is not installed: ranks as processes were not tried" && return 0; }
  local n
  for n in "${mpi_ranks[@]}"; do
    mpirun --oversubscribe --allow-run-as-root -np "$n" "$(program device_mpi_test)" --gtest_filter="$mpi_rank_tests" || return 1
  done
}
step_ring() {  # a zigzag ring of 4 with 8K tokens a rank beside one call for the same work, on one GPU
  bench ring --what ring --local-ranks 4 --one-rank "${ring_shape[@]}" --dtype bf16 --seconds "$(seconds_of 5)"
}
ten_steps() {  # of the command, with the options in `extra`; the losses go into a file
  local name=$1 text=$out/text.h5
  [ -f "$text" ] || { for _ in 1 2 3 4 5 6; do cat "$here/run.sh" "$here/README.md"; done >"$out/text.txt" &&
    "$ringbolt" tokenize --tokenizer bytes --progress none --output "$text" "$out/text.txt" >/dev/null; } || return 1
  rm -rf "$out/run-$name"
  "$ringbolt" train --device cuda --model "$ring_model" --tokens "$text" --context-length "$ring_context" --steps 10 \
    --dtype bf16 --seed 3 --progress none --output "$out/run-$name" "${extra[@]}" >/dev/null || return 1
  grep -o '"loss":[0-9.]*' "$out/run-$name/metrics.jsonl" | cut -d: -f2 >"$out/losses-$name"
}
step_ranks_training() {  # ten steps on 1, 2 and 4 ranks, by copies, as a CUDA graph and (one rank) by NCCL: losses within 1 %
  local extra=() name
  ten_steps one || return 1
  extra=(--local-ranks 2) && ten_steps two || return 1
  extra=(--local-ranks 4) && ten_steps four || return 1
  extra=(--cuda-graph) && ten_steps graph || return 1
  for name in two four graph; do within 0 0.01 10 "$out/losses-one" "$out/losses-$name" || return 1; done
  if grep -q '"nccl": ""' "$out/device.json"; then echo "this build has no NCCL: it was not tried" && return 0; fi
  extra=(--communicator nccl) && ten_steps nccl && within 0 0.01 10 "$out/losses-one" "$out/losses-nccl"
}
step_ranks_sanitizer() {
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not installed" && return 77; }
  local tool
  for tool in memcheck racecheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 9 "$(program device_ranks_test)" \
      --gtest_filter="*AttentionMatches*${device_name}_on[23]:*PassesBlocks*${device_name}*On2" --gtest_brief=1 || return 1
  done
}
step_ring_profile() {  # time by kind: attention, merges, copies, and what is none of them
  command -v nsys >/dev/null || { echo "nsys is not installed" && return 77; }
  nsys profile --force-overwrite true --output "$out/ring" "$ringbolt" bench --device cuda --what ring --local-ranks 4 \
    "${ring_shape[@]}" --dtype bf16 --seconds "$(seconds_of 1)" --progress none &&
    nsys stats --report cuda_gpu_kern_sum --format csv "$out/ring.nsys-rep" >"$out/ring-kernels.csv" &&
    nsys stats --report cuda_gpu_mem_time_sum --format csv "$out/ring.nsys-rep" >"$out/ring-copies.csv"
}
step_peer() {  # the same model's step in PyTorch, with the best attention installed there
  python3 -c 'import torch, transformers' 2>/dev/null || { echo "PyTorch or Transformers is not installed" && return 77; }
  python3 "$here/peer_step.py" "${peer_shape[@]}" --out "$out/peer.json"
}
step_profile() {
  command -v nsys >/dev/null || { echo "nsys is not installed" && return 77; }
  nsys profile --force-overwrite true --output "$out/step" "$ringbolt" bench --device cuda --what step --dtype bf16 \
    --model "$profile_model" --context-length "$step_context" --recompute block-keep-attention --seconds "$(seconds_of 1)" --progress none &&
    nsys stats --report cuda_gpu_kern_sum --format csv "$out/step.nsys-rep" >"$out/kernels.csv"
}
readonly steps=(device operations attention training forward ranks ring ranks_training model large graph rowwise matmul text fp8 peer
  sanitizer ranks_sanitizer profile ring_profile forward_whole)

# --- running them -------------------------------------------------------------------------------------------------------
entries='' status_of_all=0 child='' device=null
record() {  # name status seconds
  entries+="${entries:+,}"$'\n'"  {\"step\":\"$1\",\"status\":\"$2\",\"seconds\":$3}"
  printf '{"rehearsal":%s,"device":%s,"limit_seconds":%d,"steps":[%s\n]}\n' \
    "$([ $rehearse = yes ] && echo true || echo false)" "$device" "$seconds" "$entries" >"$out/summary.json"
  printf '%-16s %-10s %4d s\n' "$1" "$2" "$3"
  case $rehearse:$2 in yes:"cut off" | yes:"no time") status_of_all=1 ;; esac  # what did not end was not rehearsed
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

if ! "$ringbolt" info --device cuda --json "$out/device.json" >"$out/device.log" 2>&1; then
  cat "$out/device.log" >&2
  echo "nothing was checked: there is no GPU here"
  exit 77
fi
[[ $(<"$out/device.json") =~ \"device\":\ (\"[^\"]*\") ]] && device=${BASH_REMATCH[1]}
case $rehearse:$device in
  yes:*emulated*) echo "a rehearsal on the emulated device: what follows is no result" ;;
  yes:*) echo "--rehearse wants the emulated device, and this is $device. Use --root build/emulated." >&2 && exit 2 ;;
  *emulated*) echo "nothing was checked: this build's device is emulated, no GPU (--rehearse tries the steps on it)" && exit 77 ;;
esac
for name in "${steps[@]}"; do
  if [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $name "* ]]; then run_step "$name"; fi
done
echo "results in $out"
exit $status_of_all
