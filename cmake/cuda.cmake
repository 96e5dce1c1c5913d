# ringbolt_enable_cuda(): the language, the libraries and the flags of RINGBOLT_CUDA.
#
# Kernels (.cu) are compiled into object libraries by ringbolt_add_kernels, so that no target asks its consumers for the CUDA
# language; everything else that calls CUDA is plain C++.
macro(ringbolt_enable_cuda)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 100)
  endif()
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know nvcc's flag
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  find_package(CUDAToolkit 12.8 REQUIRED)  # the first with compute capability 10.0
  find_package(CUDNN 9.8 REQUIRED)
  ringbolt_find_cudnn_frontend()
endmacro()

# Header-only; from a package, or from its Python wheel (pip install nvidia-cudnn-frontend), whose headers lie in the folder
# `include` beside Python's modules. CUDNN_FRONTEND_INCLUDE_DIR names another place.
function(ringbolt_find_cudnn_frontend)
  find_package(cudnn_frontend QUIET CONFIG)
  if(TARGET cudnn_frontend)
    return()
  endif()
  find_package(Python3 QUIET COMPONENTS Interpreter)
  find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h
    HINTS $ENV{CUDNN_FRONTEND_PATH}/include ${PROJECT_SOURCE_DIR}/build/cudnn_frontend/include ${Python3_SITELIB}/include
          ${Python3_SITEARCH}/include)
  if(NOT CUDNN_FRONTEND_INCLUDE_DIR)
    message(FATAL_ERROR "cudnn_frontend.h was not found (attention on NVIDIA GPUs needs cudnn-frontend, headers only). Try: "
      "pip install --no-deps --target build/cudnn_frontend nvidia-cudnn-frontend, or set CUDNN_FRONTEND_INCLUDE_DIR.")
  endif()
  add_library(cudnn_frontend INTERFACE IMPORTED GLOBAL)
  target_include_directories(cudnn_frontend SYSTEM INTERFACE ${CUDNN_FRONTEND_INCLUDE_DIR})
endfunction()

# ringbolt_add_kernels(library source.cu…): objects of the library.
function(ringbolt_add_kernels library)
  set(objects ringbolt_${library}_kernels)
  add_library(${objects} OBJECT ${ARGN})
  target_include_directories(${objects} PRIVATE ${PROJECT_SOURCE_DIR})
  # 554: a conversion that a constraint removes is no defect. Formulas are constexpr functions for both sides.
  target_compile_options(${objects} PRIVATE --expt-relaxed-constexpr -diag-suppress=554 -Xcompiler=-Wall,-Wextra,-Wshadow
    $<$<BOOL:${RINGBOLT_WERROR}>:-Werror=all-warnings>)
  if(RINGBOLT_CHECKS)
    target_compile_definitions(${objects} PRIVATE RINGBOLT_CHECKS)
  endif()
  set_target_properties(${objects} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_sources(ringbolt_${library} PRIVATE $<TARGET_OBJECTS:${objects}>)
endfunction()
