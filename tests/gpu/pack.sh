#!/usr/bin/env bash
# Packs what was built here so that it runs on a bare GPU machine: the programs, stripped, and the shared libraries that such
# a machine lacks (Open MPI, HDF5, Boost, oneDNN, SentencePiece, the C++ runtime); and, where ../shared/data or RINGBOLT_DATA
# has them, the small models and the text of the steps `text` and `fp8`. glibc, the driver, cuBLASLt, cuDNN and NVRTC are the
# machine's own.
#
#   bash tests/gpu/pack.sh [--build DIR] [--out FILE] [--try]        (default build/cuda, ringbolt-gpu.tar.gz)
#
# --try unpacks it in an empty root file system that has glibc, bash and this machine's CUDA libraries, and nothing else, and
# runs `ringbolt info` and `ringbolt bench` there (as root: chroot). More than 60 MiB is an error.
#
# There: tar xzf ringbolt-gpu.tar.gz && bash ringbolt-gpu/gpu/run.sh
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$here/../../build/cuda out=ringbolt-gpu.tar.gz try=no
readonly limit_mib=60
while [ $# -gt 0 ]; do
  case $1 in
    --build) build=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    --try) try=yes && shift ;;
    *) echo "unknown option $1 (there are --build, --out, --try). See the head of $0." >&2 && exit 2 ;;
  esac
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
pack=$scratch/ringbolt-gpu
mkdir -p "$pack/bin" "$pack/lib" "$pack/gpu"

# --- programs -----------------------------------------------------------------------------------------------------------
readonly programs=(apps/ringbolt tests/core/backend_test tests/core/model_test tests/parallel/device_ranks_test
  tests/parallel/device_mpi_test tests/benchmarks/cuda_attention_benchmark)
for program in "${programs[@]}"; do
  if [ ! -x "$build/$program" ]; then
    if [ "$program" = apps/ringbolt ]; then echo "$build/$program is not there. Build the preset cuda first." >&2 && exit 1; fi
    echo "left out, not built: $program" >&2 && continue
  fi
  cp "$build/$program" "$pack/bin/"
done
strip "$pack"/bin/*
cp "$here"/run.sh "$here"/README.md "$pack/gpu/"
if [ -f "$here/peer_step.py" ]; then cp "$here/peer_step.py" "$pack/gpu/"; fi
data=${RINGBOLT_DATA:-$here/../../../shared/data}
for file in checkpoints/stories260K.bin checkpoints/babyllama_tok105_model5000.bin text/tinystories/tinystories_val_v1.txt \
  tokenizers/tok512/tok512.model tokenizers/tok105/tok105.model; do
  if [ -f "$data/$file" ]; then
    mkdir -p "$pack/data/$(dirname "$file")" && cp "$data/$file" "$pack/data/$file"
  else
    echo "left out, not in $data: $file" >&2
  fi
done

# --- libraries ----------------------------------------------------------------------------------------------------------
machines_own='^(ld-linux|libc\.|libm\.|libpthread\.|libdl\.|librt\.|libresolv\.|libutil\.|linux-vdso|libcuda|libcublas|libcudnn|libcudart|libnvrtc|libnvJitLink)'
for program in "$pack"/bin/*; do ldd "$build"/*/"$(basename "$program")" "$build"/*/*/"$(basename "$program")" 2>/dev/null || true; done |
  awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u | while read -r library; do
  if [[ $(basename "$library") =~ $machines_own ]]; then continue; fi
  cp -L "$library" "$pack/lib/"
done
strip --strip-unneeded "$pack"/lib/* 2>/dev/null || true

tar -C "$scratch" -czf "$out" ringbolt-gpu
size_mib=$(($(stat -c %s "$out") / 1048576 + 1))
echo "$out: $size_mib MiB, $(find "$pack/bin" -type f | wc -l) programs, $(find "$pack/lib" -type f | wc -l) libraries"
if [ "$size_mib" -gt "$limit_mib" ]; then echo "more than $limit_mib MiB: leave a program out" >&2 && exit 1; fi
[ "$try" = yes ] || exit 0

# --- an empty root ------------------------------------------------------------------------------------------------------
root=$scratch/root
mkdir -p "$root"/{bin,lib64,lib/x86_64-linux-gnu,tmp,proc,dev,usr/local/cuda/lib64}
copy_with_libraries() {  # a program of this machine and the glibc that it needs
  cp -L "$(command -v "$1")" "$root/bin/"
  ldd "$(command -v "$1")" | grep -o '/[^ ]*' | while read -r library; do cp -L --parents "$library" "$root/" 2>/dev/null || true; done
}
for program in bash mkdir cat tee ls dirname head find tail rm cmp sleep basename awk cut grep paste; do copy_with_libraries "$program"; done
for library in ld-linux-x86-64.so.2 libc.so.6 libm.so.6 libpthread.so.0 libdl.so.2 librt.so.1 libresolv.so.2 libutil.so.1; do
  cp -L "$(ldconfig -p | awk -v name="$library" '$1 == name && /x86-64/ {print $NF; exit}')" "$root/lib/x86_64-linux-gnu/" 2>/dev/null || true
done
cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
# The machine's own CUDA, as the programs of this build find it.
ldd "$build/apps/ringbolt" | awk '$2 == "=>" && $3 ~ /(cublas|cudnn|nvrtc|cudart)/ {print $3}' | while read -r library; do
  ln "$(readlink -f "$library")" "$root/usr/local/cuda/lib64/$(basename "$library")" 2>/dev/null ||
    cp -L "$library" "$root/usr/local/cuda/lib64/"
done
tar -C "$root" -xzf "$out"
in_root() { chroot "$root" /bin/env -i PATH=/bin HOME=/tmp "$@"; }
copy_with_libraries env
echo "--- in the empty root: ringbolt info"
in_root LD_LIBRARY_PATH=/ringbolt-gpu/lib:/usr/local/cuda/lib64 /ringbolt-gpu/bin/ringbolt info
echo "--- run.sh, which must say that there is no GPU (77)"
status=0
in_root bash /ringbolt-gpu/gpu/run.sh --out /tmp/results || status=$?
if [ "$status" -ne 77 ] && [ "$status" -ne 0 ]; then echo "run.sh ended with $status" >&2 && exit 1; fi
echo "the pack runs in an empty root"
