# NCCL's header: target nccl_headers, variable NCCL_VERSION. (The library is loaded by the program when it is used.) It has no
# CMake package of its own; it lies with the CUDA toolkit, or where NCCL_ROOT says.
find_package(CUDAToolkit QUIET)
find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
mark_as_advanced(NCCL_INCLUDE_DIR)

if(NCCL_INCLUDE_DIR)
  file(READ ${NCCL_INCLUDE_DIR}/nccl.h nccl_header)
  set(nccl_version_parts "")
  foreach(part MAJOR MINOR PATCH)
    string(REGEX MATCH "#define NCCL_${part} ([0-9]+)" unused "${nccl_header}")
    list(APPEND nccl_version_parts ${CMAKE_MATCH_1})
  endforeach()
  list(JOIN nccl_version_parts "." NCCL_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(NCCL REQUIRED_VARS NCCL_INCLUDE_DIR VERSION_VAR NCCL_VERSION)
if(NCCL_FOUND AND NOT TARGET nccl_headers)
  add_library(nccl_headers INTERFACE IMPORTED GLOBAL)
  target_include_directories(nccl_headers SYSTEM INTERFACE ${NCCL_INCLUDE_DIR})
endif()
