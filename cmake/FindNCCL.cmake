# NCCL: target NCCL::nccl, variable NCCL_VERSION. It has no CMake package of its own; it lies with the CUDA toolkit, or where
# NCCL_ROOT says.
find_package(CUDAToolkit QUIET)
find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
mark_as_advanced(NCCL_INCLUDE_DIR NCCL_LIBRARY)

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
find_package_handle_standard_args(NCCL REQUIRED_VARS NCCL_LIBRARY NCCL_INCLUDE_DIR VERSION_VAR NCCL_VERSION)
if(NCCL_FOUND AND NOT TARGET NCCL::nccl)
  add_library(NCCL::nccl UNKNOWN IMPORTED)
  set_target_properties(NCCL::nccl PROPERTIES IMPORTED_LOCATION ${NCCL_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${NCCL_INCLUDE_DIR})
endif()
