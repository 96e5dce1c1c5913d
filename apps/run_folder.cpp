#include "apps/run_folder.h"

#include <filesystem>
#include <system_error>
#include <vector>

#include "core/base/build_info.h"
#include "core/base/error.h"
#include "io/checkpoint_format.h"

namespace ringbolt {
namespace {

namespace fs = std::filesystem;

std::string weight_name(const ParameterSpec& spec) { return "weights/" + spec.name; }
std::string first_moment_name(const ParameterSpec& spec) { return "moments/first/" + spec.name; }
std::string second_moment_name(const ParameterSpec& spec) { return "moments/second/" + spec.name; }

void remove_old_checkpoints(const std::string& run, int64_t keep) {
  if (keep == 0) return;
  const std::vector<FoundCheckpoint> found = find_checkpoints(run);
  for (size_t i = 0; i + static_cast<size_t>(keep) < found.size(); ++i) {
    std::error_code ignored;  // one that cannot be removed only takes space
    fs::remove_all(found[i].folder, ignored);
  }
}

/// What a run left that was killed while it wrote.
void remove_unfinished_checkpoints(const std::string& run) {
  std::error_code ignored;
  std::vector<fs::path> unfinished;
  for (const fs::directory_entry& entry : fs::directory_iterator(run, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("checkpoint-") && name.ends_with(".partial")) {
      unfinished.push_back(entry.path());
    }
  }
  for (const fs::path& folder : unfinished) fs::remove_all(folder, ignored);
}

}  // namespace

bool RunFolder::holds_run() const { return fs::exists(options_file()); }

std::optional<FoundCheckpoint> RunFolder::newest_checkpoint() const {
  if (!fs::is_directory(path_)) return std::nullopt;
  const std::vector<FoundCheckpoint> found = find_checkpoints(path_);
  return found.empty() ? std::nullopt : std::optional(found.back());
}

void RunFolder::require_unused() const {
  if (!holds_run() && !newest_checkpoint()) return;
  throw UsageError(message(concat(path_, " already holds a run"),
                           "a new one would mix its files with it",
                           "Name another --output, or add --resume to go on with it."));
}

void RunFolder::make() const {
  std::error_code failed;
  fs::create_directories(path_, failed);
  if (failed || !fs::is_directory(path_)) {
    throw IoError(message(concat("cannot make the folder ", path_),
                          failed ? failed.message() : "a file has that name",
                          "Name another --output."));
  }
}

std::string RunFolder::write_checkpoint(Backend& backend, ParameterStore& parameters,
                                        Communicator& ranks, const CheckpointInfo& info,
                                        int64_t keep) const {
  std::string folder = checkpoint_folder(path_, info.step);
  CheckpointWriter writer(folder, ranks, build_line());
  std::vector<float> values;
  parameters.for_each([&](const ParameterPiece& piece) {
    const auto write = [&](const std::string& name, ConstView device) {
      values.resize(static_cast<size_t>(piece.count));
      backend.download(device, values.data());
      writer.write(name, piece.spec.shape, piece.first,
                   ConstView::of<float>(values.data(), {piece.count}));
    };
    write(weight_name(piece.spec), piece.master);
    write(first_moment_name(piece.spec), piece.m);
    write(second_moment_name(piece.spec), piece.v);
  });
  writer.finish(info);
  if (ranks.rank() != 0) return folder;
  remove_unfinished_checkpoints(path_);
  remove_old_checkpoints(path_, keep);
  return folder;
}

void load_training_state(Backend& backend, ParameterStore& parameters,
                         const CheckpointReader& checkpoint) {
  load_weights(backend, parameters,
               [&](const std::string& name, int64_t first, std::span<float> values) {
                 checkpoint.read("weights/" + name, first, values);
               });
  std::vector<float> values;
  parameters.for_each([&](const ParameterPiece& piece) {
    values.resize(static_cast<size_t>(piece.count));
    checkpoint.read(first_moment_name(piece.spec), piece.first, values);
    backend.upload(values.data(), piece.m);
    checkpoint.read(second_moment_name(piece.spec), piece.first, values);
    backend.upload(values.data(), piece.v);
  });
}

std::optional<CheckpointReader> open_checkpoint(const std::string& path) {
  if (fs::is_directory(path)) {
    if (fs::exists(fs::path(path) / kIndexName)) return CheckpointReader::open(path);
    const std::optional<FoundCheckpoint> newest = RunFolder(path).newest_checkpoint();
    if (newest) return CheckpointReader::open(newest->folder);
    return std::nullopt;
  }
  if (fs::path(path).filename() == kIndexName) return CheckpointReader::open(path);
  return std::nullopt;
}

}  // namespace ringbolt
