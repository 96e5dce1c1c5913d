// The attention kernels for the instruction set "avx2"; CMake gives this file its flags.
#define RINGBOLT_ATTENTION_KERNELS kAttentionAvx2
#include "core/cpu/attention_kernels.inl"
