// The attention kernels for the instruction set "avx512"; CMake gives this file its flags.
#define RINGBOLT_ATTENTION_KERNELS kAttentionAvx512
#include "core/cpu/attention_kernels.inl"
