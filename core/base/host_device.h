// RINGBOLT_HD marks a formula that both the CPU and the GPU run. Such functions are `static inline`
// on purpose: the CPU kernels are compiled once for each instruction set, and a merged copy could
// carry AVX-512 code to a machine without it.
#pragma once

#ifdef __CUDACC__
#define RINGBOLT_HD __host__ __device__ static inline
#else
#define RINGBOLT_HD static inline
#endif
