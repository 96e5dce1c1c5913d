// The attention kernels for the instruction set "generic"; CMake gives this file its flags.
#define RINGBOLT_ATTENTION_KERNELS kAttentionGeneric
#include "core/cpu/attention_kernels.inl"
