#!/usr/bin/env bash
# Everything a change must pass, on any Debian or Ubuntu machine: installs what is missing, builds, runs all tests.
#
#   bash tests/run.sh            all stages, about 15 minutes on 2 cores from nothing
#   bash tests/run.sh tests      only these stages, of: tests headers sanitizers threads
#
# tests       preset cpu: every test but those that need a GPU; the install test is one of them
# headers     each public header compiles alone
# sanitizers  preset asan: the tests again, but the slow ones, under AddressSanitizer and UBSan with leak checking
# threads     preset tsan: ranks as threads, under the thread sanitizer
#
# A stage that fails does not stop the next. Ends with "total: N passed, N failed, N skipped"; exit status 1 if any failed.
# Real inputs are looked for in ../shared/data or $RINGBOLT_DATA; without them their tests are skipped (with CI=true: fail).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stages=("$@")
if [ "${#stages[@]}" -eq 0 ]; then stages=(tests headers sanitizers threads); fi
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

# Runs a test preset and adds up what CTest reports.
run_tests() {
  local preset=$1 report total bad left_out status=0
  report=$PWD/build/$preset/junit.xml
  rm -f "$report"
  ctest --preset "$preset" --output-junit "$report" </dev/null || status=$?
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

stage_sanitizers() {
  heading "Building (preset asan)"
  # tests/all: the tests and what they link, no more.
  # Light optimisation and line tables only: a third less to compile, and the stack traces stay readable.
  step "configure" cmake --preset asan -D CMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g1" && step "build" cmake --build --preset asan -j "$jobs" --target tests/all || return
  heading "Tests (preset asan)"
  # allocator_may_return_null: a test asks for more memory than there is and must see how the program says so.
  export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order=1
  export LSAN_OPTIONS=suppressions=$PWD/tests/support/leaks.supp:print_suppressions=0
  export UBSAN_OPTIONS=print_stacktrace=1
  run_tests asan
}

stage_threads() {
  heading "Building (preset tsan)"
  step "configure" cmake --preset tsan -D CMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g1" && step "build" cmake --build --preset tsan -j "$jobs" || return
  heading "Tests (preset tsan)"
  run_tests tsan
}

step "packages" bash cmake/setup.sh || { echo "total: $passed passed, $failed failed, $skipped skipped"; exit 1; }
for stage in "${stages[@]}"; do
  case $stage in
    tests | headers | sanitizers | threads) "stage_$stage" ;;
    *) echo "unknown stage '$stage' (there are tests, headers, sanitizers, threads). Name one of these, or none for all."; exit 2 ;;
  esac
done

heading "Done"
echo "total: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
