// A device whose streams do nothing until they must, and then anything that their order allows:
// what was not ordered by marks comes out wrong, on any machine and whatever the timing.
//
// Operations are those of the CPU backend, put into a compute stream; copies go into a transfer
// stream. A host that waits (download, synchronize, a mark) runs the streams of all the device's
// backends, by a seeded choice among the stream heads that are not held back; is_done runs a few
// steps, too. Fresh and released memory is overwritten with NaNs, in the order of the stream.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "core/backend/backend.h"

namespace ringbolt::testing_support {

class LazyDevice;  // tests/support/lazy_streams.h
struct LazyStream;

/// One for all ranks of a process; `seed` decides in which order streams run.
std::shared_ptr<LazyDevice> make_lazy_device(uint64_t seed);

/// Transfers beside a compute stream; by default copies on a lazy stream.
using MakeTransfers = std::function<std::unique_ptr<Transfers>(LazyStream& compute)>;

/// A rank's backend on it. The device lives as long as it has backends.
std::unique_ptr<Backend> make_lazy_backend(std::shared_ptr<LazyDevice> device,
                                           const MakeTransfers& transfers = {});

/// Steps that streams took in an order other than that in which they were given: a test that wants
/// disorder can say how much it had.
int64_t disorder(const LazyDevice& device);

}  // namespace ringbolt::testing_support
