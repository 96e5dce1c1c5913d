# Option RINGBOLT_NCCL: ranks with a GPU each. On where CUDA is built and NCCL is found, unless the configuration says OFF; an
# explicit ON without either is an error.
if(RINGBOLT_CUDA AND NOT RINGBOLT_EMULATED_CUDA AND NOT DEFINED RINGBOLT_NCCL)
  find_package(NCCL 2.18 QUIET)
endif()
option(RINGBOLT_NCCL "Ranks with a GPU each, by NCCL" ${NCCL_FOUND})
if(RINGBOLT_NCCL)
  if(NOT RINGBOLT_CUDA)
    message(FATAL_ERROR "RINGBOLT_NCCL=ON without RINGBOLT_CUDA (NCCL moves the memory of GPUs). Use the preset cuda.")
  endif()
  find_package(NCCL 2.18 REQUIRED)  # communicators that do not block, and their end
endif()
