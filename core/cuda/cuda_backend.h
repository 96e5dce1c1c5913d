// The CUDA backend, from a factory of its own: builds without CUDA have the factory, too, and it
// says what is missing.
//
// One backend is one GPU with one compute stream. All operations and allocations are ordered on
// that stream; the host waits in download, synchronize and sum_of_squares only.
#pragma once

#include <memory>
#include <string>

#include "core/backend/backend.h"

namespace ringbolt {

/// Throws: NotBuilt in a build without CUDA; DeviceError where there is no GPU, or none with this
/// number.
std::unique_ptr<Backend> make_cuda_backend(int device = 0);

/// All of the GPU's memory. Throws: as make_cuda_backend().
int64_t cuda_memory_bytes(int device = 0);

/// GPUs that this process sees, at least 1. Throws: as make_cuda_backend().
int cuda_device_count();

/// "0000:3b:00.0": the GPU's place in its machine, whatever number it has here. Throws: as
/// make_cuda_backend().
std::string cuda_bus_id(int device);

/// Whether this build has the backend at all.
bool cuda_is_built();

/// Why make_cuda_backend() would throw, or "" where it would not: tests skip by it, saying so.
std::string why_no_cuda();

}  // namespace ringbolt
