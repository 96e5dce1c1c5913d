// ringbolt info: the build and the devices, or what a file holds.
#include <sys/utsname.h>

#include <filesystem>
#include <iostream>
#include <thread>

#include "apps/commands.h"
#include "apps/common_options.h"
#include "apps/results.h"
#include "apps/rope_options.h"
#include "core/base/build_info.h"
#include "core/base/error.h"
#include "core/base/quantity.h"
#include "core/cpu/isa.h"
#include "core/cuda/cuda_backend.h"
#include "io/checkpoint.h"
#include "io/checkpoint_format.h"
#include "io/hdf5.h"
#include "io/memory_limit.h"
#include "io/model_json.h"
#include "io/tokens.h"
#include "io/weights.h"
#include "parallel/mpi.h"
#include "parallel/nccl.h"

namespace ringbolt {
namespace {

namespace fs = std::filesystem;

/// A text and a JSON form of the same facts, in order.
class Facts {
 public:
  void add(const std::string& name, Json value, const std::string& shown) {
    text_ += name + std::string(name.size() < 22 ? 22 - name.size() : 1, ' ') + shown + "\n";
    std::string key = name;
    for (char& c : key) c = c == ' ' ? '_' : c;
    json_.set(key, std::move(value));
  }
  void add(const std::string& name, const std::string& value) { add(name, value, value); }
  void add_count(const std::string& name, int64_t value) {
    add(name, value, format_grouped(value));
  }
  void add_hidden(const std::string& key, Json value) { json_.set(key, std::move(value)); }

  const std::string& text() const { return text_; }
  const Json& json() const { return json_; }

 private:
  std::string text_;
  Json json_ = Json::object();
};

void describe_build(Facts& facts) {
  const BuildInfo& build = build_info();
  facts.add("version", build.version);
  facts.add("commit",
            build.commit + (build.modified ? " (with changes that are in no commit)" : ""));
  facts.add("compiler", concat(build.compiler, ", ", build.build_type));
  facts.add("flags", build.flags);
  if (!build.sanitizers.empty()) facts.add("sanitizers", build.sanitizers);
  Json libraries = Json::object();
  std::string shown;
  for (const auto& [name, version] : build.libraries) {
    libraries.set(name, version);
    shown += concat(shown.empty() ? "" : ", ", name, " ", version);
  }
  facts.add("libraries", libraries, shown);
  const std::string mpi = mpi_library();
  facts.add("mpi", mpi, mpi.empty() ? "none (this build runs ranks by --local-ranks only)" : mpi);
  const std::string nccl = nccl_library();
  facts.add("nccl", nccl, nccl.empty() ? "none (GPUs exchange tensors by copies)" : nccl);
}

void describe_devices(Facts& facts, const DeviceOptions& device) {
  utsname system{};
  uname(&system);
  facts.add("host", concat(system.sysname, " ", system.release, " ", system.machine));
  const std::unique_ptr<Backend> backend = device.make_backend();
  facts.add("device", concat(backend->name(), ": ", backend->description()));
  if (device.device == Device::cuda) facts.add_count("cuda devices", cuda_device_count());
  Json sets = Json::array();
  std::string shown;
  for (const cpu::Isa isa : cpu::available_isas()) {
    sets.push(cpu::name_of(isa));
    shown += (shown.empty() ? "" : ", ") + cpu::name_of(isa);
  }
  facts.add("instruction sets", sets,
            concat(shown, " (used: ", cpu::name_of(cpu::choose_isa()), ")"));
  facts.add_count("cores", std::thread::hardware_concurrency());
  facts.add("memory", machine_memory(), format_bytes(machine_memory()));
  if (usable_memory() < machine_memory())
    facts.add("memory limit", usable_memory(), format_bytes(usable_memory()));
}

void describe_model(Facts& facts, const ModelConfig& model) {
  facts.add_count("parameters", model.parameter_count());
  facts.add_count("layers", model.num_hidden_layers);
  facts.add("hidden size", model.hidden_size,
            concat(model.hidden_size, ", feed-forward ", model.intermediate_size));
  facts.add("heads", model.num_attention_heads,
            concat(model.num_attention_heads, " of dimension ", model.head_dim, ", ",
                   model.num_key_value_heads, " for keys and values"));
  facts.add("vocabulary", model.vocab_size,
            concat(format_grouped(model.vocab_size),
                   model.tie_word_embeddings ? ", head tied to the embedding" : ""));
  facts.add_count("context length", model.max_position_embeddings);
  const bool halves = model.rotary_pairing == RotaryPairing::half_split;
  facts.add("rotary base", model.rope_theta,
            concat(rope_description(model), halves ? ", half-split pairs" : ", interleaved pairs"));
  facts.add_hidden("model", to_json(model));
}

void describe_tensors(Facts& facts, const CheckpointReader& checkpoint) {
  Json tensors = Json::array();
  int64_t bytes = 0;
  for (const std::string& name : checkpoint.names()) {
    const Shape& shape = checkpoint.shape(name);
    Json dims = Json::array();
    for (int i = 0; i < shape.rank(); ++i) dims.push(shape[i]);
    tensors.push(Json::object()
                     .set("name", name)
                     .set("shape", dims)
                     .set("dtype", name_of(checkpoint.dtype(name))));
    bytes += shape.elements() * size_of(checkpoint.dtype(name));
  }
  facts.add("tensors", tensors,
            concat(format_grouped(static_cast<int64_t>(tensors.size())), ", ", format_bytes(bytes),
                   " in ", checkpoint.shards(), checkpoint.shards() == 1 ? " shard" : " shards"));
}

void describe_checkpoint(Facts& facts, const std::string& path) {
  const CheckpointReader checkpoint = CheckpointReader::open(path);
  facts.add("kind", "checkpoint", "Ringbolt checkpoint " + checkpoint.folder());
  facts.add_count("step", checkpoint.info().step);
  facts.add("written by", checkpoint.info().build);
  describe_model(facts, checkpoint.info().model);
  describe_tensors(facts, checkpoint);
  const Json training = Json::parse(checkpoint.info().training_json, path);
  if (training.size() != 0) facts.add("training", training, training.dump());
}

void describe_tokens(Facts& facts, const std::string& path) {
  const TokenDataset data = TokenDataset::open(path);
  facts.add("kind", "tokens", "Ringbolt token file " + path);
  facts.add_count("tokens", data.tokens());
  facts.add_count("documents", data.documents());
  facts.add_count("vocabulary", data.vocab_size());
  facts.add("tokenizer", concat(data.tokenizer_name(), ", hash ", data.tokenizer_hash()));
  facts.add("written by", data.build());
  int64_t longest = 0;
  for (size_t i = 1; i < data.offsets().size(); ++i)
    longest = std::max(longest, data.offsets()[i] - data.offsets()[i - 1]);
  facts.add("longest document", longest, format_grouped(longest) + " tokens");
}

void describe_path(Facts& facts, const std::string& path) {
  if (fs::is_directory(path)) {
    if (fs::exists(fs::path(path) / kIndexName)) return describe_checkpoint(facts, path);
    const std::vector<FoundCheckpoint> found = find_checkpoints(path);
    if (!found.empty()) {
      describe_checkpoint(facts, found.back().folder);
      facts.add("checkpoints", static_cast<int64_t>(found.size()),
                concat(found.size(), " in ", path));
      return;
    }
    throw IoError(message(
        concat("cannot describe ", path), "the folder has no index.h5 and no checkpoint-… folder",
        "Name a checkpoint, a run's folder, a token file, or a llama2.c .bin file."));
  }
  if (fs::path(path).extension() == ".h5") {
    const std::string format = hdf5::File::stamp_of(path).format;
    if (format == kTokensFormat) return describe_tokens(facts, path);
    return describe_checkpoint(facts, path);
  }
  const std::unique_ptr<WeightSource> weights = open_weights(path);
  facts.add("kind", "llama2.c", weights->description());
  describe_model(facts, weights->config());
}

}  // namespace

int run_info(const Arguments& arguments) {
  std::vector<std::string> paths;
  DeviceOptions device;
  OutputOptions out;
  OptionSet options(
      "info", "Shows the build, the libraries and the devices, or, for each PATH, what it holds.");
  options.group("What");
  options.add("path", "PATH", paths, "Checkpoints, runs, token files, llama2.c .bin files");
  options.positional("path");
  device.declare(options);
  out.declare(options);
  options.example("info");
  options.example("info run/checkpoint-000100 tokens.h5");
  if (!options.parse(arguments, std::cout)) return 0;

  Json result = begin_result("info");
  if (paths.empty()) {
    Facts facts;
    describe_build(facts);
    describe_devices(facts, device);
    result.set("system", facts.json());
    if (!json_is_output(out.json)) std::cout << facts.text();
  }
  Json described = Json::array();
  for (const std::string& path : paths) {
    Facts facts;
    describe_path(facts, path);
    Json entry = facts.json();
    described.push(entry.set("path", path));
    if (!json_is_output(out.json)) std::cout << (described.size() > 1 ? "\n" : "") << facts.text();
  }
  if (!paths.empty()) result.set("files", described);
  write_result(out.json, result);
  return 0;
}

}  // namespace ringbolt
