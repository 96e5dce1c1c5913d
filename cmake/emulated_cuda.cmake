# RINGBOLT_CUDA=emulated: the CUDA backend for tests, on a device that is none (tests/support/emulated_cuda). Kernels are
# compiled as C++ with headers that stand in for the compiler's extensions; CUDA's own headers declare the rest.
#
# Sets RINGBOLT_EMULATED_CUDA and RINGBOLT_CUDA_HEADERS, and RINGBOLT_CUDA to what emulated-if-found comes to.
set(RINGBOLT_EMULATED_CUDA OFF)
if(RINGBOLT_CUDA MATCHES "^emulated")
  find_path(RINGBOLT_CUDA_HEADERS cuda_runtime_api.h
    HINTS ${CUDAToolkit_ROOT}/include /usr/local/cuda/include ENV CUDA_HOME PATH_SUFFIXES include)
  find_library(RINGBOLT_BOOST_CONTEXT boost_context)
  mark_as_advanced(RINGBOLT_CUDA_HEADERS RINGBOLT_BOOST_CONTEXT)
  if(RINGBOLT_CUDA_HEADERS AND RINGBOLT_BOOST_CONTEXT AND RINGBOLT_TESTS)
    set(RINGBOLT_EMULATED_CUDA ON)
    set(RINGBOLT_CUDA emulated)
  elseif(RINGBOLT_CUDA STREQUAL "emulated-if-found")
    message(STATUS "CUDA is not emulated (it needs CUDA's headers, Boost.Context and RINGBOLT_TESTS).")
    set(RINGBOLT_CUDA OFF)
  else()
    message(FATAL_ERROR "RINGBOLT_CUDA=${RINGBOLT_CUDA} needs RINGBOLT_TESTS=ON, Boost.Context (${RINGBOLT_BOOST_CONTEXT}) and "
      "CUDA's headers (${RINGBOLT_CUDA_HEADERS}). Set CUDAToolkit_ROOT, or use RINGBOLT_CUDA=OFF.")
  endif()
elseif(RINGBOLT_CUDA AND NOT RINGBOLT_CUDA MATCHES "^(ON|on|TRUE|true|YES|1)$")
  message(FATAL_ERROR "RINGBOLT_CUDA=${RINGBOLT_CUDA} is unknown (there are OFF, ON, emulated, emulated-if-found). Choose one.")
endif()

# ringbolt_add_emulated_kernels(library source.cu…): kernels as C++, in the library itself.
function(ringbolt_add_emulated_kernels library)
  set(objects ringbolt_${library}_kernels)
  add_library(${objects} OBJECT ${ARGN})
  set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX)
  target_compile_options(${objects} PRIVATE -Wall -Wextra -Wshadow -Wno-unknown-pragmas -Wno-uninitialized -Wno-maybe-uninitialized -ffp-contract=fast -fno-math-errno
    $<$<BOOL:${RINGBOLT_WERROR}>:-Werror>)
  ringbolt_frames_on_the_stack(${objects})  # of a fibre
  if(RINGBOLT_CHECKS)
    target_compile_definitions(${objects} PRIVATE RINGBOLT_CHECKS)
  endif()
  target_include_directories(${objects} BEFORE PRIVATE ${PROJECT_SOURCE_DIR}/tests/support/emulated_cuda/include)
  target_include_directories(${objects} PRIVATE ${PROJECT_SOURCE_DIR})
  target_include_directories(${objects} SYSTEM PRIVATE ${RINGBOLT_CUDA_HEADERS})
  target_link_libraries(${objects} PRIVATE ringbolt_sanitizers)
  set_target_properties(${objects} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_sources(ringbolt_${library} PRIVATE $<TARGET_OBJECTS:${objects}>)
endfunction()
