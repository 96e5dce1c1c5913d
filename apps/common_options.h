// Options that several commands share.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "apps/options.h"
#include "apps/progress.h"
#include "core/backend/backend.h"
#include "core/model/attention_operands.h"

namespace ringbolt {

enum class ProgressChoice { automatic, bar, lines, none };

/// --json and --progress: every command has them.
struct OutputOptions {
  std::optional<std::string> json;
  ProgressChoice progress = ProgressChoice::automatic;

  void declare(OptionSet& options);
  ProgressOutput progress_output() const;
};

/// --attention-dtype: commands that only go forward.
void declare_attention_dtype(OptionSet& options, AttentionDType& dtype);

enum class Device { cpu, cuda };

/// --device, --gpu and --threads: commands that compute.
struct DeviceOptions {
  Device device = Device::cpu;
  std::optional<int64_t> gpu;
  int64_t threads = 0;

  void declare(OptionSet& options);
  /// For one of `local_ranks` ranks of this process, on its own thread.
  std::unique_ptr<Backend> make_backend(int64_t local_ranks = 1) const;
  /// --gpu; else, of a launcher's ranks, each takes the next one of those it sees. The ranks of one
  /// process have the same. Throws: NotBuilt, DeviceError where there is none.
  int gpu_of_rank() const;
};

}  // namespace ringbolt
