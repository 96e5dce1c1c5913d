// The cost model's figures, measured on the ranks and backend of this run in about 0.2 s.
#pragma once

#include "parallel/cost_model.h"

namespace ringbolt {

/// A ring exchange of 1 MiB and of 8 bytes, attention forward and backward with the job's heads (at
/// most 8 of them), and both at once; medians, averaged over ranks, so that all decide alike. Both
/// links of the result are the one between neighbours of `ring`, a communicator of the backend's
/// memory; a ring of one leaves them infinitely fast. Collective.
MachineRates measure_rates(Backend& backend, Communicator& ring, const AttentionJob& job);

/// The same link, alone.
Link measure_link(Backend& backend, Communicator& ring);

}  // namespace ringbolt
