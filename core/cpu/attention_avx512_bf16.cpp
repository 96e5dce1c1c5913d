// The attention kernels for the instruction set "avx512_bf16"; CMake gives this file its flags.
#define RINGBOLT_ATTENTION_KERNELS kAttentionAvx512Bf16
#include "core/cpu/attention_kernels.inl"
