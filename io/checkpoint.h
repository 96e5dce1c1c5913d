// Checkpoints: one HDF5 file a rank, and an index that shows every tensor as one array.
//
//   checkpoint-000100/shard-00003.h5   what rank 3 owned: flat pieces of tensors, "<name>/<first
//   element>"
//                    /index.h5         step, model, training state; each tensor as a virtual
//                    dataset over the shards
//
// Written as "<folder>.partial", flushed on every rank, then renamed by rank 0: a run killed at any
// moment leaves earlier checkpoints whole. Any number of ranks reads it, in any ranges. Names are
// "weights/<Hugging Face's name>", "moments/first/<…>" and "moments/second/<…>".
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/shape.h"
#include "core/model/config.h"
#include "core/tensor/tensor.h"
#include "io/hdf5.h"
#include "parallel/communicator.h"

namespace ringbolt {

struct CheckpointInfo {
  ModelConfig model;
  int64_t step = 0;
  /// A JSON object that the trainer owns: schedule, seed, data position.
  std::string training_json = "{}";
  std::string build;  ///< the program that wrote it; filled in on reading
};

/// A flat range of a tensor that one rank holds.
struct TensorPiece {
  std::string name;
  Shape whole;
  DType dtype = DType::f32;
  int64_t first = 0;
  int64_t count = 0;
  int shard = 0;
  /// The dataset that holds it in its shard.
  std::string dataset() const { return concat(name, "/", first); }
};

class CheckpointWriter {
 public:
  /// Collective. Errors are kept for finish().
  CheckpointWriter(std::string folder, Communicator& ranks, std::string build);
  /// Not collective: without finish() this rank removes what it wrote.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Elements [first_element, first_element + values.elements()) of the tensor `name`, whose whole
  /// shape is `whole`; f32 or bf16, contiguous, in host memory. Empty pieces may be skipped or
  /// given. An error is kept for finish(), so that no rank leaves the others waiting.
  void write(const std::string& name, const Shape& whole, int64_t first_element, ConstView values);

  /// Collective. Makes the checkpoint appear, replacing one of the same name. Throws on every rank:
  /// IoError where any rank failed or some elements of a tensor were written by no rank, or by two;
  /// then nothing remains of it.
  void finish(const CheckpointInfo& info);

 private:
  void write_index(const CheckpointInfo& info, const std::vector<TensorPiece>& pieces);
  std::string shard_path() const;
  void close_shard();
  std::vector<TensorPiece> gather_pieces();
  /// Collective: throws on all ranks where one has an error.
  void agree();
  template <class Action>
  void attempt(const Action& action);

  std::string folder_;
  std::string partial_;
  Communicator& ranks_;
  std::string build_;
  int64_t id_ = 0;  // drawn by rank 0, in all files: shards of different checkpoints do not mix
  std::optional<hdf5::File> shard_;
  std::vector<TensorPiece> pieces_;
  std::string error_;
  bool finished_ = false;
};

class CheckpointReader {
 public:
  /// Opens and checks the index and every shard. `path` is the checkpoint's folder or its index.h5.
  /// Throws: IoError naming the file that is missing, damaged, foreign or of another checkpoint, or
  /// the incomplete tensor.
  static CheckpointReader open(const std::string& path);

  const CheckpointInfo& info() const { return info_; }
  /// Sorted.
  std::vector<std::string> names() const;
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  const Shape& shape(const std::string& name) const { return tensor(name).shape; }
  DType dtype(const std::string& name) const { return tensor(name).dtype; }
  int shards() const { return static_cast<int>(shards_.size()); }
  const std::string& folder() const { return folder_; }

  /// Elements [first, first + out.size()) as f32. Throws: IoError, naming shard and dataset where a
  /// checksum is wrong.
  void read(const std::string& name, int64_t first, std::span<float> out) const;

 private:
  struct TensorEntry {
    Shape shape;
    DType dtype = DType::f32;
    std::vector<TensorPiece> pieces;  // ascending, without gaps
  };

  CheckpointReader() = default;
  const TensorEntry& tensor(const std::string& name) const;
  void read_tensor_table(const hdf5::File& index);
  void open_shards(int64_t id, int64_t count);

  std::string folder_;
  CheckpointInfo info_;
  std::map<std::string, TensorEntry> tensors_;
  std::vector<hdf5::File> shards_;
};

/// Where the trainer puts the checkpoint of a step: "<run>/checkpoint-000100".
std::string checkpoint_folder(const std::string& run, int64_t step);

struct FoundCheckpoint {
  int64_t step = 0;
  std::string folder;
};
/// The finished checkpoints of a run, by ascending step. Empty where there are none.
std::vector<FoundCheckpoint> find_checkpoints(const std::string& run);

}  // namespace ringbolt
