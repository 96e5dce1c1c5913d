#!/usr/bin/env bash
# Everything a change must pass, on any Debian or Ubuntu machine: installs what is missing, builds, runs all tests.
#
#   bash tests/run.sh            all stages, 20 to 28 minutes on 2 cores from nothing
#   bash tests/run.sh tests      only these stages, of: tests headers cuda sanitizers threads
#
# tests       preset cpu: every test but those that need a GPU; the install test is one of them
# headers     each public header compiles alone
# cuda        preset cuda for one architecture: compiles, links, says what is missing without a GPU, and cuDNN's graphs for a
#             GPU that need not be here; where there is no CUDA toolkit it says loudly that nothing was checked
# sanitizers  preset asan: the tests again, but the slow ones, under AddressSanitizer and UBSan with leak checking; CUDA's
#             kernels and streams, too, on an emulated device, where CUDA's headers are
# threads     preset tsan: ranks as threads, under the thread sanitizer
#
# A stage that fails does not stop the next. Ends with "total: N passed, N failed, N skipped"; exit status 1 if any failed.
# Real inputs are looked for in ../shared/data or $RINGBOLT_DATA; without them their tests are skipped (with CI=true: fail).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stages=("$@")
if [ "${#stages[@]}" -eq 0 ]; then stages=(tests headers cuda sanitizers threads); fi
jobs=${RINGBOLT_JOBS:-$(nproc)}
passed=0
failed=0
skipped=0

heading() { printf '\n=== %s (%d:%02d)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); }

# One thing that is no CTest test: counts as one, passed or failed.
step() {
  local name=$1
  shift
  if "$@" </dev/null; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: $name ($*)"
    return 1
  fi
}

# The number in attribute $2 of the first <testsuite> of the JUnit file $1; 0 where there is none.
junit_count() { sed -n "s/.*[[:space:]]$2=\"\([0-9]*\)\".*/\1/p" "$1" 2>/dev/null | head -n 1 | grep . || echo 0; }

# Runs a test preset, with what options follow it, and adds up what CTest reports.
run_tests() {
  local preset=$1 report total bad left_out status=0
  shift
  report=$PWD/build/$preset/junit.xml
  rm -f "$report"
  ctest --preset "$preset" "$@" -j "$jobs" --output-junit "$report" </dev/null || status=$?
  total=$(junit_count "$report" tests)
  bad=$(junit_count "$report" failures)
  left_out=$(($(junit_count "$report" skipped) + $(junit_count "$report" disabled)))
  # CTest may fail without a failed test (none found, a program that would not list its tests): count that, too.
  if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1 total=$((total + 1)); fi
  passed=$((passed + total - bad - left_out))
  failed=$((failed + bad))
  skipped=$((skipped + left_out))
}

stage_tests() {
  heading "Building (preset cpu)"
  step "configure" cmake --preset cpu && step "build" cmake --build --preset cpu -j "$jobs" || return
  heading "Tests (preset cpu)"
  run_tests cpu
}

stage_headers() {
  heading "Headers alone"
  step "configure" cmake --preset cpu || return
  step "headers alone" cmake --build --preset cpu -j "$jobs" --target all_verify_interface_header_sets
}

# Where cudnn_frontend.h is, after fetching it where it is nowhere: headers only, into the build folder.
find_cudnn_frontend() {
  local folder
  for folder in "${CUDNN_FRONTEND_INCLUDE_DIR:-}" "$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))' 2>/dev/null)/include" \
    "$PWD/build/cudnn_frontend/include"; do
    if [ -f "$folder/cudnn_frontend.h" ]; then echo "$folder" && return; fi
  done
  python3 -m pip install -q --no-deps --disable-pip-version-check --target build/cudnn_frontend nvidia-cudnn-frontend >/dev/null 2>&1 &&
    [ -f build/cudnn_frontend/include/cudnn_frontend.h ] && echo "$PWD/build/cudnn_frontend/include"
}

stage_cuda() {
  heading "CUDA"
  local frontend nvcc=/usr/local/cuda/bin/nvcc
  command -v nvcc >/dev/null && nvcc=$(command -v nvcc)
  if [ ! -x "$nvcc" ]; then
    echo "NOT CHECKED: the CUDA backend was not compiled (there is no nvcc here). Run this stage where a CUDA toolkit is."
    skipped=$((skipped + 1))
    return
  fi
  if ! frontend=$(find_cudnn_frontend); then
    echo "NOT CHECKED: the CUDA backend was not compiled (cudnn-frontend is not here and could not be fetched with pip)."
    skipped=$((skipped + 1))
    return
  fi
  PATH=$(dirname "$nvcc"):$PATH
  export PATH
  # One architecture and what links all of the backend; the rest of the program is the preset cpu's, which optimises it.
  step "configure" cmake --preset cuda -D CMAKE_CUDA_ARCHITECTURES=90a-real -D CMAKE_CXX_FLAGS_RELEASE="-O1 -DNDEBUG" \
    -D CUDNN_FRONTEND_INCLUDE_DIR="$frontend" &&
    step "build" cmake --build --preset cuda -j "$jobs" --target cuda_test || return
  heading "Tests (preset cuda): without a GPU, and graphs for one"
  run_tests cuda -R '^cuda_test\.' -E 'A100|B200'
}

stage_sanitizers() {
  heading "Building (preset asan)"
  # The CUDA backend runs on an emulated device, which needs CUDA's headers (cmake/emulated_cuda.cmake).
  if [ ! -f /usr/local/cuda/include/cuda_runtime_api.h ] && [ ! -f /usr/include/cuda_runtime_api.h ]; then
    echo "NOT CHECKED: CUDA kernels did not run under the sanitizers (CUDA's headers are not here)."
    skipped=$((skipped + 1))
  fi
  # tests/all: the tests and what they link, no more.
  # Light optimisation and nothing for debuggers, for the compiler's time. Stack traces name functions; the preset by itself
  # adds their lines.
  step "configure" cmake --preset asan -D CMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g0" && step "build" cmake --build --preset asan -j "$jobs" --target tests/all || return
  heading "Tests (preset asan)"
  # allocator_may_return_null: a test asks for more memory than there is and must see how the program says so.
  export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order=1
  export LSAN_OPTIONS=suppressions=$PWD/tests/support/leaks.supp:print_suppressions=0
  export UBSAN_OPTIONS=print_stacktrace=1
  run_tests asan
}

stage_threads() {
  heading "Building (preset tsan)"
  step "configure" cmake --preset tsan -D CMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g0" && step "build" cmake --build --preset tsan -j "$jobs" || return
  heading "Tests (preset tsan)"
  run_tests tsan
}

step "packages" bash cmake/setup.sh || { echo "total: $passed passed, $failed failed, $skipped skipped"; exit 1; }
for stage in "${stages[@]}"; do
  case $stage in
    tests | headers | cuda | sanitizers | threads) "stage_$stage" ;;
    *) echo "unknown stage '$stage' (there are tests, headers, cuda, sanitizers, threads). Name one of these, or none for all."; exit 2 ;;
  esac
done

heading "Done"
echo "total: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
