# The object behind core/base/build_info.h. Included by core/CMakeLists.txt, whose library it joins.
#
# What configuring knows goes into build_facts.cmake (ringbolt_write_build_facts, called last, when all packages have been
# found); what only the moment of building knows, the commit, is asked then by write_build_info.cmake.
find_package(Git QUIET)

set(ringbolt_generated_dir ${PROJECT_BINARY_DIR}/generated)
add_custom_target(ringbolt_write_build_info
  COMMAND ${CMAKE_COMMAND} -D SOURCE_DIR=${PROJECT_SOURCE_DIR} -D GENERATED_DIR=${ringbolt_generated_dir}
          -D GIT_EXECUTABLE=${GIT_EXECUTABLE} -P ${PROJECT_SOURCE_DIR}/cmake/write_build_info.cmake
  BYPRODUCTS ${ringbolt_generated_dir}/build_info.cpp
  COMMENT "Asking git for the commit"
  VERBATIM)
target_sources(ringbolt_core PRIVATE ${ringbolt_generated_dir}/build_info.cpp)
add_dependencies(ringbolt_core ringbolt_write_build_info)

# Package versions, wherever in the tree they were found: name, folder, variable.
function(ringbolt_library_versions out)
  set(versions "")
  foreach(entry "oneDNN core dnnl_VERSION" "OpenMP core OpenMP_CXX_VERSION" "CUDA . CUDAToolkit_VERSION"
                "cuDNN . CUDNN_VERSION" "NCCL . NCCL_VERSION" "MPI . RINGBOLT_MPI_VERSION" "HDF5 io HDF5_VERSION"
                "SentencePiece io SENTENCEPIECE_VERSION" "SentencePiece io sentencepiece_VERSION"
                "nlohmann-json io nlohmann_json_VERSION" "Boost apps Boost_VERSION_STRING" "Boost apps Boost_VERSION")
    separate_arguments(entry)
    list(GET entry 0 name)
    list(GET entry 1 folder)
    list(GET entry 2 variable)
    get_directory_property(version DIRECTORY ${PROJECT_SOURCE_DIR}/${folder} DEFINITION ${variable})
    if(version AND NOT "${versions}" MATCHES "(^|;)${name} ")
      list(APPEND versions "${name} ${version}")
    endif()
  endforeach()
  set(${out} "${versions}" PARENT_SCOPE)
endfunction()

function(ringbolt_write_build_facts)
  string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
  string(STRIP "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${type}} -std=c++20 -ffp-contract=fast" flags)
  ringbolt_library_versions(libraries)
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/build_facts.cmake @ONLY CONTENT
[[set(VERSION [==[@PROJECT_VERSION@]==])
set(COMPILER [==[@CMAKE_CXX_COMPILER_ID@ @CMAKE_CXX_COMPILER_VERSION@]==])
set(BUILD_TYPE [==[@CMAKE_BUILD_TYPE@]==])
set(FLAGS [==[@flags@]==])
set(SANITIZERS [==[@RINGBOLT_SANITIZE@]==])
set(LIBRARY_VERSIONS [==[@libraries@]==])
]])
endfunction()
