# ringbolt_add_library(name SOURCES … HEADERS … LINKS … PRIVATE_LINKS …)
#
# One static library a folder: target ringbolt_<name>, alias ringbolt::<name>, headers installed from the root so that
# "core/tensor/tensor.h" works in the tree and installed.
function(ringbolt_add_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;HEADERS;LINKS;PRIVATE_LINKS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "ringbolt_add_library(${name}): unknown arguments ${arg_UNPARSED_ARGUMENTS}")
  endif()
  set(target ringbolt_${name})
  add_library(${target} STATIC ${arg_SOURCES})
  add_library(ringbolt::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} POSITION_INDEPENDENT_CODE ON)
  target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${arg_HEADERS})
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_link_libraries(${target}
    PUBLIC ${arg_LINKS}
    PRIVATE ${arg_PRIVATE_LINKS} $<BUILD_INTERFACE:ringbolt_warnings> $<BUILD_INTERFACE:ringbolt_sanitizers>)
endfunction()
