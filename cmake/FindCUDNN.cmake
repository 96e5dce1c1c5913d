# cuDNN 9: target CUDNN::cudnn, variable CUDNN_VERSION. It has no CMake package of its own; it lies with the CUDA toolkit, or
# where CUDNN_ROOT says.
find_package(CUDAToolkit QUIET)
find_path(CUDNN_INCLUDE_DIR cudnn_version.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
find_library(CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
mark_as_advanced(CUDNN_INCLUDE_DIR CUDNN_LIBRARY)

if(CUDNN_INCLUDE_DIR)
  file(READ ${CUDNN_INCLUDE_DIR}/cudnn_version.h cudnn_version_text)
  foreach(part MAJOR MINOR PATCHLEVEL)
    string(REGEX MATCH "#define CUDNN_${part} ([0-9]+)" unused "${cudnn_version_text}")
    list(APPEND cudnn_version_parts ${CMAKE_MATCH_1})
  endforeach()
  list(JOIN cudnn_version_parts "." CUDNN_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CUDNN REQUIRED_VARS CUDNN_LIBRARY CUDNN_INCLUDE_DIR VERSION_VAR CUDNN_VERSION)
if(CUDNN_FOUND AND NOT TARGET CUDNN::cudnn)
  add_library(CUDNN::cudnn UNKNOWN IMPORTED)
  set_target_properties(CUDNN::cudnn PROPERTIES IMPORTED_LOCATION ${CUDNN_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${CUDNN_INCLUDE_DIR})
endif()
