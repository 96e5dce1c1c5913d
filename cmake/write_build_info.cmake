# Run at build time (cmake -P): writes build_info.cpp, and touches it only where something changed.
include(${GENERATED_DIR}/build_facts.cmake)

set(COMMIT "unknown")
set(MODIFIED "false")
if(GIT_EXECUTABLE)
  # --show-prefix is empty at the top of a checkout: an unpacked archive inside somebody's repository has no commit of ours.
  execute_process(COMMAND ${GIT_EXECUTABLE} -C ${SOURCE_DIR} rev-parse --show-prefix
                  OUTPUT_VARIABLE prefix ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE status)
  if(status EQUAL 0 AND prefix STREQUAL "")
    execute_process(COMMAND ${GIT_EXECUTABLE} -C ${SOURCE_DIR} rev-parse --short=12 HEAD
                    OUTPUT_VARIABLE head ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE status)
    execute_process(COMMAND ${GIT_EXECUTABLE} -C ${SOURCE_DIR} status --porcelain --untracked-files=no
                    OUTPUT_VARIABLE changes ERROR_QUIET)
    if(status EQUAL 0)
      set(COMMIT "${head}")
    endif()
    if(NOT changes STREQUAL "")
      set(MODIFIED "true")
    endif()
  endif()
endif()

set(LIBRARIES "")
foreach(entry IN LISTS LIBRARY_VERSIONS)
  string(REGEX REPLACE "^([^ ]*) (.*)$" "{\"\\1\", \"\\2\"}" pair "${entry}")
  list(APPEND LIBRARIES "${pair}")
endforeach()
list(JOIN LIBRARIES ", " LIBRARIES)
string(REPLACE "\"" "\\\"" FLAGS "${FLAGS}")

configure_file(${CMAKE_CURRENT_LIST_DIR}/build_info.cpp.in ${GENERATED_DIR}/build_info.cpp @ONLY)
