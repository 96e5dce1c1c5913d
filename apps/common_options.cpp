#include "apps/common_options.h"

#include "apps/ranks.h"

namespace ringbolt {

void OutputOptions::declare(OptionSet& options) {
  options.group("Output");
  options.add("json", "FILE", json,
              "Writes the results to a JSON file, too; - is standard output, without the text");
  options.choice<ProgressChoice>(
      "progress", progress,
      {{"auto", ProgressChoice::automatic},
       {"bar", ProgressChoice::bar},
       {"lines", ProgressChoice::lines},
       {"none", ProgressChoice::none}},
      "A bar that rewrites itself, lines for a log file, or nothing; auto is a bar on a terminal");
}

ProgressOutput OutputOptions::progress_output() const {
  ProgressOutput output = standard_progress_output();
  switch (progress) {
    case ProgressChoice::automatic:
      break;
    case ProgressChoice::bar:
      output.mode = ProgressMode::bar;
      break;
    case ProgressChoice::lines:
      output.mode = ProgressMode::lines;
      break;
    case ProgressChoice::none:
      output.mode = ProgressMode::none;
      break;
  }
  return output;
}

void DeviceOptions::declare(OptionSet& options) {
  options.group("Device");
  options.choice<Device>("device", device, {{"cpu", Device::cpu}}, "Where to compute");
  options
      .add("threads", "N", threads,
           "Threads of a rank; 0 takes OMP_NUM_THREADS, else its share of the cores that this "
           "process "
           "may use")
      .at_most(4096);
}

std::unique_ptr<Backend> DeviceOptions::make_backend(int64_t local_ranks) const {
  return make_cpu_backend(static_cast<int>(threads_of_rank(threads, local_ranks)));
}

}  // namespace ringbolt
