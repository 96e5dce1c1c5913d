# Installs the program, the libraries with their headers, and a package so that
#
#   find_package(ringbolt REQUIRED)
#   target_link_libraries(mine PRIVATE ringbolt::core)
#
# works from the install tree. The outside packages that a static library needs at link time are looked for again there.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(ringbolt_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/ringbolt)
set(ringbolt_targets "")
foreach(folder core rope parallel io)
  if(TARGET ringbolt_${folder})
    list(APPEND ringbolt_targets ringbolt_${folder})
  endif()
endforeach()

# Which package defines an imported target: target, then what find_dependency is given.
set(ringbolt_package_of_DNNL::dnnl "dnnl")
set(ringbolt_package_of_OpenMP::OpenMP_CXX "OpenMP COMPONENTS CXX")
set(ringbolt_package_of_Threads::Threads "Threads")
set(ringbolt_package_of_MPI::MPI_C "MPI COMPONENTS C")
set(ringbolt_package_of_HDF5::HDF5 "HDF5 COMPONENTS C")
set(ringbolt_package_of_hdf5::hdf5 "HDF5 COMPONENTS C")
set(ringbolt_package_of_CUDA::cudart_static "CUDAToolkit")
set(ringbolt_package_of_CUDA::cublasLt "CUDAToolkit")
set(ringbolt_package_of_CUDA::nvrtc "CUDAToolkit")
set(ringbolt_package_of_CUDNN::cudnn "CUDNN")
set(ringbolt_package_of_nlohmann_json::nlohmann_json "nlohmann_json")

set(RINGBOLT_DEPENDENCIES "")
foreach(target IN LISTS ringbolt_targets)
  get_target_property(linked ${target} LINK_LIBRARIES)
  foreach(library IN LISTS linked)
    if(library MATCHES "^ringbolt|::@|^\\$" OR NOT library MATCHES "::")
      continue()
    endif()
    if(library MATCHES "^PkgConfig::(.*)$")
      set(module ${CMAKE_MATCH_1})
      string(TOLOWER ${module} package)
      string(APPEND RINGBOLT_DEPENDENCIES
        "find_dependency(PkgConfig)\npkg_check_modules(${module} REQUIRED QUIET IMPORTED_TARGET ${package})\n")
    elseif(DEFINED ringbolt_package_of_${library})
      string(APPEND RINGBOLT_DEPENDENCIES "find_dependency(${ringbolt_package_of_${library}})\n")
    else()
      message(FATAL_ERROR "${target} links ${library} (cmake/install.cmake does not know its package, so an installed "
                          "ringbolt could not find it). Add it to the table there.")
    endif()
  endforeach()
endforeach()

install(TARGETS ${ringbolt_targets} EXPORT ringbolt FILE_SET HEADERS)
install(EXPORT ringbolt NAMESPACE ringbolt:: DESTINATION ${ringbolt_package_dir} FILE ringbolt-targets.cmake)
foreach(program ringbolt)
  if(TARGET ${program})
    install(TARGETS ${program})
  endif()
endforeach()

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/ringbolt-config.cmake.in
  ${PROJECT_BINARY_DIR}/generated/ringbolt-config.cmake INSTALL_DESTINATION ${ringbolt_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/generated/ringbolt-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/generated/ringbolt-config.cmake ${CMAKE_CURRENT_LIST_DIR}/FindCUDNN.cmake
              ${PROJECT_BINARY_DIR}/generated/ringbolt-config-version.cmake
  DESTINATION ${ringbolt_package_dir})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
