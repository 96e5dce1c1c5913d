#include "io/weights.h"

#include <filesystem>
#include <utility>

#include "core/base/error.h"
#include "io/checkpoint.h"
#include "io/checkpoint_format.h"
#include "io/llama2c.h"

namespace ringbolt {
namespace {

namespace fs = std::filesystem;

class CheckpointWeights final : public WeightSource {
 public:
  explicit CheckpointWeights(const std::string& path) : reader_(CheckpointReader::open(path)) {
    for (const ParameterGroup& group : parameter_groups(config())) {
      for (const ParameterSpec& spec : group.tensors) check(spec);
    }
  }
  const ModelConfig& config() const override { return reader_.info().model; }
  bool has(const std::string& name) const override { return reader_.has(stored(name)); }
  void read(const std::string& name, int64_t first, std::span<float> out) const override {
    reader_.read(stored(name), first, out);
  }
  std::string description() const override {
    return concat("checkpoint ", reader_.folder(), " (step ", reader_.info().step, ")");
  }

 private:
  static std::string stored(const std::string& name) { return "weights/" + name; }

  void check(const ParameterSpec& spec) const {
    const bool there = has(spec.name);
    if (!there && spec.owner == ParameterOwner::rotary_method) return;
    if (there && reader_.shape(stored(spec.name)) == spec.shape) return;
    throw IoError(
        message(concat("cannot use the checkpoint ", reader_.folder()),
                there ? concat(spec.name, " has the shape ", reader_.shape(stored(spec.name)).str(),
                               " and its configuration asks for ", spec.shape.str())
                      : concat("it has no weight ", spec.name),
                "Use another checkpoint of the run."));
  }

  CheckpointReader reader_;
};

}  // namespace

std::unique_ptr<WeightSource> open_weights(const std::string& path) {
  if (fs::is_directory(path)) {
    if (fs::exists(fs::path(path) / kIndexName)) return std::make_unique<CheckpointWeights>(path);
    const std::vector<FoundCheckpoint> found = find_checkpoints(path);
    if (!found.empty()) return std::make_unique<CheckpointWeights>(found.back().folder);
    throw IoError(message(concat("cannot find weights in ", path),
                          "the folder has no index.h5 and no checkpoint-… folder",
                          "Name a checkpoint, a run's folder, or a llama2.c .bin file."));
  }
  if (fs::path(path).extension() == ".h5") return std::make_unique<CheckpointWeights>(path);
  return open_llama2c(path);
}

}  // namespace ringbolt
