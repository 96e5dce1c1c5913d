# ringbolt_add_test(name SOURCES … [LINKS …] [LABELS …] [TIMEOUT seconds] [RANKS 1 2 …]
#                   [ENVIRONMENT NAME=VALUE …] [SLOW_EMULATED regex] [SLOW_SANITIZED regex])
#
# A GoogleTest program. Without RANKS CTest lists its tests one by one, those of the GPU with the label gpu, those of the
# emulated one with emulated (and slow, where SLOW_EMULATED matches their names). With RANKS its main is
# tests/support/ranks_main.cpp and it is run whole on each number of MPI ranks, as name.np2 and so on; a count that cannot be
# run is a failure, not left out. A build without MPI has no such tests. SLOW_SANITIZED are those that take too long under
# sanitizers, or say little there that others do not: they are slow in such a build, whose presets leave slow tests out.
include(GoogleTest)

# For libraries' own threads: ranks share the cores already.
set(ringbolt_rank_environment
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1  # containers run as root
  OMPI_MCA_rmaps_base_oversubscribe=1                        # more ranks than cores are wanted
  OMPI_MCA_mpi_yield_when_idle=1                             # or each wait costs a time slice
  OMPI_MCA_hwloc_base_binding_policy=none
  OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
  ASAN_OPTIONS=detect_leaks=0)                               # Open MPI leaks

# The thread sanitizer cannot see what OpenMP's library synchronises (it is not instrumented).
set(ringbolt_openmp_environment OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive)
if(RINGBOLT_SANITIZE MATCHES "thread")
  set(ringbolt_openmp_environment OMP_NUM_THREADS=1)
endif()

# ringbolt_compile_as_test(target): tests are compiled more often than they run. What they test, and what computes their
# references, keeps the optimisation of its preset; headers that most of them include, and that take half of the time, are
# parsed once.
file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/test_headers.cpp CONTENT "")
add_library(ringbolt_test_headers OBJECT ${CMAKE_CURRENT_BINARY_DIR}/test_headers.cpp)
target_link_libraries(ringbolt_test_headers PRIVATE GTest::gtest ringbolt_warnings ringbolt_sanitizers)
target_precompile_headers(ringbolt_test_headers PRIVATE
  <gtest/gtest.h> <algorithm> <cmath> <filesystem> <fstream> <functional> <span> <string> <thread> <vector>)

function(ringbolt_compile_as_test target)
  ringbolt_instrument_quickly(${target})
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(${target} PRIVATE -O1)
  endif()
  if(NOT target STREQUAL "ringbolt_test_headers")
    target_precompile_headers(${target} REUSE_FROM ringbolt_test_headers)
  endif()
endfunction()
ringbolt_compile_as_test(ringbolt_test_headers)

function(ringbolt_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT;SLOW_EMULATED;SLOW_SANITIZED" "SOURCES;LINKS;LABELS;RANKS;ENVIRONMENT")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "ringbolt_add_test(${name}): unknown arguments ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(arg_RANKS AND NOT RINGBOLT_MPI)
    return()
  endif()
  if(NOT RINGBOLT_SANITIZE OR NOT arg_SLOW_SANITIZED)
    set(arg_SLOW_SANITIZED "^$")  # none
  endif()
  if(NOT arg_SLOW_EMULATED)
    set(arg_SLOW_EMULATED "^$")
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LINKS} ringbolt_warnings ringbolt_sanitizers)
  ringbolt_compile_as_test(${name})
  if(NOT arg_RANKS)
    target_link_libraries(${name} PRIVATE GTest::gtest_main)
    set(environment ${ringbolt_openmp_environment} ${arg_ENVIRONMENT})
    gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 TEST_PREFIX "${name}."
      PROPERTIES TIMEOUT ${arg_TIMEOUT})
    # Lists do not survive gtest_discover_tests: it takes the second label for another property. Tests of the GPU say `cuda_`
    # in their names: one runs at a time, and none counts as a unit test.
    set(file ${CMAKE_CURRENT_BINARY_DIR}/${name}_properties.cmake)
    file(CONFIGURE OUTPUT ${file} @ONLY CONTENT
[[foreach(test IN LISTS @name@_TESTS)
  set(labels @arg_LABELS@)
  if("${test}" MATCHES "/cuda_")
    set(labels gpu)
    set_tests_properties("${test}" PROPERTIES RESOURCE_LOCK gpu TIMEOUT 600)
  elseif("${test}" MATCHES "/emulated_|emulated_cuda_([a-z]+_)?test")
    list(APPEND labels emulated)
    set_tests_properties("${test}" PROPERTIES TIMEOUT 600)
    if("${test}" MATCHES "@arg_SLOW_EMULATED@")
      list(APPEND labels slow)
      set_tests_properties("${test}" PROPERTIES TIMEOUT 1800)
    endif()
  endif()
  if("${test}" MATCHES "@arg_SLOW_SANITIZED@")
    list(APPEND labels slow)
  endif()
  set_tests_properties("${test}" PROPERTIES LABELS "${labels}" ENVIRONMENT "@environment@")
endforeach()
]])
    set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${file})
    return()
  endif()
  target_link_libraries(${name} PRIVATE ringbolt_ranks_main)
  foreach(ranks IN LISTS arg_RANKS)
    set(labels ${arg_LABELS} mpi)
    if("${name}.np${ranks}" MATCHES "${arg_SLOW_SANITIZED}")
      list(APPEND labels slow)
    endif()
    add_test(NAME ${name}.np${ranks}
      COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${ranks} $<TARGET_FILE:${name}>)
    set_tests_properties(${name}.np${ranks} PROPERTIES
      PROCESSORS ${ranks} SKIP_RETURN_CODE 77 TIMEOUT ${arg_TIMEOUT} LABELS "${labels}" ENVIRONMENT "${ringbolt_rank_environment}")
  endforeach()
endfunction()
