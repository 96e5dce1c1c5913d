// ringbolt bench --what forward: a whole model over one sequence, for its time and its memory.
//
// The setup and the pass are those of ringbolt evaluate: the same strategies over ranks, the same
// account of memory, which refuses before it starts, the same pieces. The weights are random.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/bench_report.h"
#include "apps/common_options.h"
#include "apps/mesh_options.h"
#include "core/model/config.h"
#include "parallel/communicator.h"

namespace ringbolt {

struct ForwardBench {
  std::string name;    ///< of the model
  ModelConfig config;  ///< max_position_embeddings is the sequence's length
  std::vector<DType> dtypes;
  AttentionDType attention_dtype;
  double seconds;  ///< for passes beyond the first, and for each rate
  const MeshOptions& mesh;
  const DeviceOptions& device;
  ProgressOutput progress;
};

/// A pass in each type; `tensors` is `world` for the backend's memory. Collective. Throws:
/// UsageError where it does not fit the ranks or their memory.
RankReport bench_forward(const ForwardBench& bench, Backend& backend, Communicator& world,
                         Communicator& tensors);

}  // namespace ringbolt
