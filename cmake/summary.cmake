# The one block at the end of configuring, and the same facts for build_info.
ringbolt_write_build_facts()
ringbolt_library_versions(ringbolt_libraries)
list(JOIN ringbolt_libraries ", " ringbolt_libraries)
if(NOT RINGBOLT_SANITIZE)
  set(ringbolt_sanitizers_text "none")
else()
  set(ringbolt_sanitizers_text "${RINGBOLT_SANITIZE}")
endif()
message(STATUS "
  Ringbolt ${PROJECT_VERSION}
    build type    ${CMAKE_BUILD_TYPE}
    compiler      ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}
    libraries     ${ringbolt_libraries}
    CUDA          ${RINGBOLT_CUDA} ${CMAKE_CUDA_ARCHITECTURES}, NCCL ${RINGBOLT_NCCL}
    tests         ${RINGBOLT_TESTS}, benchmarks ${RINGBOLT_BENCHMARKS}
    checks        ${RINGBOLT_CHECKS}, sanitizers ${ringbolt_sanitizers_text}
    warnings      as errors: ${RINGBOLT_WERROR}
    install into  ${CMAKE_INSTALL_PREFIX}
")
