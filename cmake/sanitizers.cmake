# Sanitizers named in RINGBOLT_SANITIZE, for compiling and linking.
add_library(ringbolt_sanitizers INTERFACE)
if(RINGBOLT_SANITIZE)
  if(RINGBOLT_SANITIZE MATCHES "address" AND RINGBOLT_SANITIZE MATCHES "thread")
    message(FATAL_ERROR "RINGBOLT_SANITIZE=${RINGBOLT_SANITIZE} (address and thread exclude each other). Choose one.")
  endif()
  target_compile_options(ringbolt_sanitizers INTERFACE
    -fsanitize=${RINGBOLT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(ringbolt_sanitizers INTERFACE -fsanitize=${RINGBOLT_SANITIZE})
  if(RINGBOLT_SANITIZE MATCHES "undefined" AND RINGBOLT_SANITIZE MATCHES "address")
    # These two checks take a tenth of the compiler's time. A null pointer that is read stops the program all the same, and
    # casts to derived classes are dynamic ones here.
    target_compile_options(ringbolt_sanitizers INTERFACE -fno-sanitize=null,vptr)
  endif()
endif()

# ringbolt_frames_on_the_stack(target): no copies of frames elsewhere, by which the address sanitizer finds uses after return.
function(ringbolt_frames_on_the_stack target)
  if(RINGBOLT_SANITIZE MATCHES "address" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE --param asan-use-after-return=0)
  endif()
endfunction()

# ringbolt_instrument_quickly(target [regex]): what computes little is not optimised under sanitizers, which halves the
# compiler's time: the whole target, or its sources whose names match.
function(ringbolt_instrument_quickly target)
  if(NOT RINGBOLT_SANITIZE)
    return()
  endif()
  if(NOT ARGN)
    target_compile_options(${target} PRIVATE -O0)
    return()
  endif()
  get_target_property(sources ${target} SOURCES)
  list(FILTER sources INCLUDE REGEX "${ARGN}")
  set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS -O0)
endfunction()
