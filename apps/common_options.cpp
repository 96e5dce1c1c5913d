#include "apps/common_options.h"

#include <algorithm>

#include "apps/ranks.h"
#include "core/base/error.h"
#include "core/cuda/cuda_backend.h"
#include "parallel/launch.h"

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

void declare_attention_dtype(OptionSet& options, AttentionDType& dtype) {
  options.choice<AttentionDType>(
      "attention-dtype", dtype,
      {{"auto", AttentionDType::model},
       {"f32", AttentionDType::f32},
       {"bf16", AttentionDType::bf16},
       {"fp8", AttentionDType::fp8},
       {"fp8-output", AttentionDType::fp8_output}},
      "Type of q, k and v in attention; auto is the model's. fp8 is E4M3 with power-of-two scales "
      "of each rank, keys taken from their mean, weights of the softmax rounded, too; fp8-output "
      "also rounds what a rank's keys "
      "give, as Hopper's kernel does");
}

void DeviceOptions::declare(OptionSet& options) {
  options.group("Device");
  options.choice<Device>("device", device, {{"cpu", Device::cpu}, {"cuda", Device::cuda}},
                         "Where to compute");
  options.add("gpu", "N", gpu, "Which GPU, of those that this process sees")
      .at_least(0)
      .at_most(1023)
      .by_default("0; a launcher's ranks take turns");
  options
      .add("threads", "N", threads,
           "Threads of a rank; 0 takes OMP_NUM_THREADS, else its share of the cores that this "
           "process "
           "may use")
      .at_most(4096);
}

std::unique_ptr<Backend> DeviceOptions::make_backend(int64_t local_ranks) const {
  if (device == Device::cuda) return make_cuda_backend(gpu_of_rank());
  return make_cpu_backend(static_cast<int>(threads_of_rank(threads, local_ranks)));
}

int DeviceOptions::gpu_of_rank() const {
  const std::optional<Launch>& launch = find_launch();
  if (gpu || !launch) return static_cast<int>(gpu.value_or(0));
  return launch->local_rank % cuda_device_count();
}

}  // namespace ringbolt
