// A stand-in for the part of CUDA's runtime that streams, events and copies are made of, over lazy
// streams (tests/support/lazy_streams.h): code that calls CUDA runs without a GPU, its streams in
// any order that its events allow.
#pragma once

#include <memory>

#include "core/backend/backend.h"
#include "tests/support/lazy_streams.h"

namespace ringbolt::testing_support {

/// The one device.
const std::shared_ptr<LazyDevice>& fake_cuda_device();

/// The event as CUDA's transfers know it.
Mark cuda_mark_of(const std::shared_ptr<LazyEvent>& event);

/// A backend whose compute stream is one of the stand-in's, and whose transfers are CUDA's
/// (core/cuda/transfers.h).
std::unique_ptr<Backend> make_fake_cuda_backend();

}  // namespace ringbolt::testing_support
