#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "io/atomic_file.h"
#include "io/checkpoint.h"
#include "io/checkpoint_format.h"
#include "io/json.h"
#include "io/model_json.h"

namespace ringbolt {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPieces = "pieces/";
constexpr int64_t kBlock = int64_t{1} << 18;  // elements converted at a time

[[noreturn]] void refuse(const std::string& folder, const std::string& why) {
  throw IoError(message(concat("cannot use the checkpoint ", folder), why,
                        "Restore it from a copy, or use another checkpoint of the run."));
}

}  // namespace

std::string shard_name(int rank) {
  std::string name(32, '\0');
  name.resize(static_cast<size_t>(std::snprintf(name.data(), name.size(), "shard-%05d.h5", rank)));
  return name;
}

std::string checkpoint_folder(const std::string& run, int64_t step) {
  std::string name(40, '\0');
  name.resize(static_cast<size_t>(
      std::snprintf(name.data(), name.size(), "checkpoint-%06lld", static_cast<long long>(step))));
  return (fs::path(run) / name).string();
}

std::vector<FoundCheckpoint> find_checkpoints(const std::string& run) {
  constexpr std::string_view kPrefix = "checkpoint-";
  std::vector<FoundCheckpoint> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(run, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix) || !fs::exists(entry.path() / kIndexName)) continue;
    const std::string digits = name.substr(kPrefix.size());
    if (digits.empty() || digits.size() > 18 ||
        digits.find_first_not_of("0123456789") != std::string::npos)
      continue;
    found.push_back({std::stoll(digits), entry.path().string()});
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.step < b.step; });
  return found;
}

void check_cover(const std::string& folder, std::span<const TensorPiece> pieces) {
  const TensorPiece& head = pieces.front();
  int64_t next = 0;
  for (const TensorPiece& p : pieces) {
    if (p.whole != head.whole || p.dtype != head.dtype) {
      refuse(folder,
             concat("its pieces of ", p.name, " disagree on shape or type: ", head.whole.str(), " ",
                    name_of(head.dtype), " and ", p.whole.str(), " ", name_of(p.dtype)));
    }
    if (p.first != next) {
      refuse(folder, concat("of ", p.name, " ", p.whole.str(), " the elements from ",
                            std::min(next, p.first), " to ", std::max(next, p.first),
                            p.first > next ? " are missing" : " are there twice"));
    }
    next += p.count;
  }
  if (next != head.whole.elements()) {
    refuse(folder, concat("of ", head.name, " ", head.whole.str(), " the elements from ", next,
                          " to ", head.whole.elements(), " are missing"));
  }
}

CheckpointReader CheckpointReader::open(const std::string& path) {
  CheckpointReader reader;
  const bool is_index = fs::path(path).filename() == kIndexName;
  reader.folder_ = is_index ? parent_folder(path) : path;
  const hdf5::File index =
      hdf5::File::open((fs::path(reader.folder_) / kIndexName).string(), kIndexFormat);
  reader.info_.build = index.stamp().build;
  reader.info_.step = index.integer_attribute("step");
  reader.info_.model = model_from_json(
      Json::parse(index.text("model"), index.file_path() + ":model"), index.file_path());
  reader.info_.training_json = index.text("training");
  const int64_t id = index.integer_attribute("checkpoint_id");
  const int64_t shards = index.integer_attribute("shards");
  reader.open_shards(id, shards);
  reader.read_tensor_table(index);
  return reader;
}

void CheckpointReader::open_shards(int64_t id, int64_t count) {
  if (count < 1 || count > 1'000'000)
    refuse(folder_, concat("it says that it has ", count, " shards"));
  for (int rank = 0; rank < count; ++rank) {
    const std::string path = (fs::path(folder_) / shard_name(rank)).string();
    hdf5::File shard = hdf5::File::open(path, kShardFormat);
    if (shard.integer_attribute("checkpoint_id") != id) {
      refuse(folder_, concat(path, " belongs to another checkpoint"));
    }
    shards_.push_back(std::move(shard));
  }
}

void CheckpointReader::read_tensor_table(const hdf5::File& index) {
  for (const std::string& listed : index.dataset_names()) {
    if (!listed.starts_with(kPieces)) continue;
    const std::string name = listed.substr(kPieces.size());
    const hdf5::Dataset shown = index.dataset(name);
    const hdf5::Dataset table = index.dataset(listed);
    if (table.shape().rank() != 2 || table.shape()[1] != 3)
      refuse(folder_, concat("its table of ", name, " is damaged"));
    std::vector<int64_t> rows(static_cast<size_t>(table.elements()));
    table.read<int64_t>(0, rows);
    TensorEntry entry{
        shown.shape(), shown.type() == hdf5::Type::bf16 ? DType::bf16 : DType::f32, {}};
    for (size_t i = 0; i + 2 < rows.size(); i += 3) {
      if (rows[i] < 0 || rows[i] >= shards())
        refuse(folder_, concat("a piece of ", name, " is in no shard"));
      entry.pieces.push_back(
          {name, entry.shape, entry.dtype, rows[i + 1], rows[i + 2], static_cast<int>(rows[i])});
    }
    check_cover(folder_, entry.pieces);
    tensors_.emplace(name, std::move(entry));
  }
}

std::vector<std::string> CheckpointReader::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : tensors_) names.push_back(name);
  return names;
}

const CheckpointReader::TensorEntry& CheckpointReader::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) refuse(folder_, concat("it has no tensor ", name));
  return found->second;
}

void CheckpointReader::read(const std::string& name, int64_t first, std::span<float> out) const {
  const TensorEntry& entry = tensor(name);
  const int64_t end = first + std::ssize(out);
  if (first < 0 || end > entry.shape.elements()) {
    refuse(folder_, concat("the elements from ", first, " to ", end, " lie outside ", name, " ",
                           entry.shape.str()));
  }
  for (const TensorPiece& piece : entry.pieces) {
    const int64_t begin = std::max(first, piece.first);
    const int64_t stop = std::min(end, piece.first + piece.count);
    if (begin >= stop) continue;
    const hdf5::Dataset dataset =
        shards_[static_cast<size_t>(piece.shard)].dataset(piece.dataset());
    const std::span<float> part =
        out.subspan(static_cast<size_t>(begin - first), static_cast<size_t>(stop - begin));
    if (piece.dtype == DType::f32) {
      dataset.read<float>(begin - piece.first, part);
      continue;
    }
    std::vector<bf16> block(static_cast<size_t>(std::min<int64_t>(kBlock, std::ssize(part))));
    for (int64_t done = 0; done < std::ssize(part); done += kBlock) {
      const auto n = static_cast<size_t>(std::min<int64_t>(kBlock, std::ssize(part) - done));
      const std::span<bf16> values = std::span(block).first(n);
      dataset.read<bf16>(begin - piece.first + done, values);
      std::transform(values.begin(), values.end(), part.begin() + done,
                     [](bf16 x) { return to_float(x); });
    }
  }
}

}  // namespace ringbolt
