#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <random>
#include <sstream>
#include <tuple>
#include <utility>

#include "io/atomic_file.h"
#include "io/checkpoint.h"
#include "io/checkpoint_format.h"
#include "io/model_json.h"

namespace ringbolt {
namespace {

namespace fs = std::filesystem;

hdf5::Type stored_type(DType dtype) {
  return dtype == DType::bf16 ? hdf5::Type::bf16 : hdf5::Type::f32;
}

/// All ranks' texts, by rank.
std::vector<std::string> gather_text(Communicator& ranks, const std::string& text) {
  const auto n = static_cast<size_t>(ranks.size());
  const int64_t mine = std::ssize(text);
  std::vector<int64_t> lengths(n);
  ranks.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(lengths)));
  const auto longest = static_cast<size_t>(*std::max_element(lengths.begin(), lengths.end()));
  std::vector<std::string> texts(n);
  if (longest == 0) return texts;
  std::string padded = text;
  padded.resize(longest);
  std::string all(n * longest, '\0');
  ranks.all_gather(std::as_bytes(std::span(padded)), std::as_writable_bytes(std::span(all)));
  for (size_t r = 0; r < n; ++r)
    texts[r] = all.substr(r * longest, static_cast<size_t>(lengths[r]));
  return texts;
}

/// One line a piece: "first count dtype rank dims… name".
std::string to_text(const std::vector<TensorPiece>& pieces) {
  std::ostringstream out;
  for (const TensorPiece& p : pieces) {
    out << p.first << ' ' << p.count << ' ' << (p.dtype == DType::bf16 ? 1 : 0) << ' '
        << p.whole.rank();
    for (int i = 0; i < p.whole.rank(); ++i) out << ' ' << p.whole[i];
    out << ' ' << p.name << '\n';
  }
  return out.str();
}

Shape shape_of(const std::vector<int64_t>& d) {
  switch (d.size()) {
    case 1:
      return {d[0]};
    case 2:
      return {d[0], d[1]};
    case 3:
      return {d[0], d[1], d[2]};
    default:
      return {d[0], d[1], d[2], d[3]};
  }
}

void add_from_text(const std::string& text, int shard, std::vector<TensorPiece>& pieces) {
  std::istringstream in(text);
  TensorPiece p;
  p.shard = shard;
  for (int is_bf16 = 0, rank = 0; in >> p.first >> p.count >> is_bf16 >> rank;) {
    std::vector<int64_t> dims(static_cast<size_t>(rank));
    for (int64_t& d : dims) in >> d;
    p.whole = shape_of(dims);
    p.dtype = is_bf16 ? DType::bf16 : DType::f32;
    in.get();
    std::getline(in, p.name);
    pieces.push_back(p);
  }
}

/// Gives the finished folder its name. Where a checkpoint of that name is there, the two are
/// exchanged in one step, so that at every moment one of them has the name; the file systems that
/// cannot do that (NFS) have a moment without.
void give_name(const std::string& partial, const std::string& folder) {
  if (!fs::exists(folder)) {
    if (std::rename(partial.c_str(), folder.c_str()) != 0)
      throw system_error("rename to", folder, errno);
    return;
  }
  constexpr unsigned kExchange = 2;  // RENAME_EXCHANGE
  if (::syscall(SYS_renameat2, AT_FDCWD, partial.c_str(), AT_FDCWD, folder.c_str(), kExchange) !=
      0) {
    const std::string old = folder + ".old";
    if (std::rename(folder.c_str(), old.c_str()) != 0) throw system_error("rename", folder, errno);
    if (std::rename(partial.c_str(), folder.c_str()) != 0)
      throw system_error("rename to", folder, errno);
    fs::remove_all(old);
    return;
  }
  fs::remove_all(partial);
}

/// Removes a file. Emptied first: a close that failed on a full disk leaves it open, and its space
/// would stay taken.
void discard(const std::string& path) {
  std::error_code ignored;
  fs::resize_file(path, 0, ignored);
  fs::remove(path, ignored);
}

}  // namespace

template <class Action>
void CheckpointWriter::attempt(const Action& action) {
  if (!error_.empty()) return;
  try {
    action();
  } catch (const std::exception& error) {
    error_ = error.what();
  }
}

CheckpointWriter::CheckpointWriter(std::string folder, Communicator& ranks, std::string build)
    : folder_(std::move(folder)), ranks_(ranks), build_(std::move(build)) {
  while (folder_.size() > 1 && folder_.back() == '/') folder_.pop_back();
  partial_ = folder_ + ".partial";
  if (ranks_.rank() == 0) {
    attempt([&] {
      if (fs::exists(folder_) && !fs::is_directory(folder_))
        throw system_error("write", folder_, ENOTDIR);
      fs::remove_all(partial_);
      fs::create_directories(partial_);
    });
    std::random_device entropy;
    id_ = static_cast<int64_t>((uint64_t{entropy()} << 31U) ^ entropy());
  }
  ranks_.broadcast(std::as_writable_bytes(std::span(&id_, 1)),
                   0);  // also: nobody writes before the folder is there
  attempt([&] {
    shard_ = hdf5::File::create(shard_path(), {kShardFormat, 1, build_});
    shard_->set_attribute("checkpoint_id", id_);
  });
}

std::string CheckpointWriter::shard_path() const {
  return partial_ + "/" + shard_name(ranks_.rank());
}

CheckpointWriter::~CheckpointWriter() {
  if (finished_) return;
  shard_.reset();
  discard(shard_path());
  std::error_code ignored;
  fs::remove(partial_, ignored);  // the last rank's succeeds
}

void CheckpointWriter::write(const std::string& name, const Shape& whole, int64_t first_element,
                             ConstView values) {
  if (values.elements() == 0) return;
  attempt([&] {
    const int64_t count = values.elements();
    if (!values.is_contiguous() || values.dtype() == DType::i32 || whole.rank() < 1 ||
        first_element < 0 || first_element > whole.elements() - count) {
      throw Error(message(concat("cannot write ", count, " elements of ", name, " ", whole.str(),
                                 " at ", first_element),
                          "a piece must be contiguous f32 or bf16 and lie inside its tensor",
                          "This is a defect of Ringbolt."));
    }
    const TensorPiece piece{name, whole, values.dtype(), first_element, count, ranks_.rank()};
    const hdf5::Type type = stored_type(piece.dtype);
    hdf5::Dataset dataset = shard_->create_dataset(piece.dataset(), type, {count});
    dataset.write_range(type, 0, count, values.bytes());
    pieces_.push_back(piece);
  });
}

void CheckpointWriter::close_shard() {
  if (!shard_) return;
  shard_->close();
  shard_.reset();
  sync_to_disk(shard_path());
}

void CheckpointWriter::agree() {
  const std::vector<std::string> errors = gather_text(ranks_, error_);
  const auto failed =
      std::find_if(errors.begin(), errors.end(), [](const std::string& e) { return !e.empty(); });
  if (failed == errors.end()) return;
  shard_.reset();
  discard(shard_path());
  ranks_.barrier();
  std::error_code ignored;
  if (ranks_.rank() == 0) {
    discard(partial_ + "/" + kIndexName);
    fs::remove_all(partial_, ignored);
  }
  finished_ = true;
  const auto rank = failed - errors.begin();
  throw IoError(ranks_.size() == 1 ? *failed : concat("rank ", rank, ": ", *failed));
}

std::vector<TensorPiece> CheckpointWriter::gather_pieces() {
  std::vector<TensorPiece> all;
  const std::vector<std::string> texts = gather_text(ranks_, to_text(pieces_));
  for (size_t r = 0; r < texts.size(); ++r) add_from_text(texts[r], static_cast<int>(r), all);
  std::sort(all.begin(), all.end(), [](const TensorPiece& a, const TensorPiece& b) {
    return std::tie(a.name, a.first) < std::tie(b.name, b.first);
  });
  return all;
}

void CheckpointWriter::write_index(const CheckpointInfo& info,
                                   const std::vector<TensorPiece>& pieces) {
  const std::string path = partial_ + "/" + kIndexName;
  hdf5::File index = hdf5::File::create(path, {kIndexFormat, 1, build_});
  index.set_attribute("checkpoint_id", id_);
  index.set_attribute("step", info.step);
  index.set_attribute("shards", static_cast<int64_t>(ranks_.size()));
  index.write_text("model", to_json(info.model).dump());
  index.write_text("training", info.training_json);
  for (auto begin = pieces.begin(); begin != pieces.end();) {
    const auto end = std::find_if(begin, pieces.end(),
                                  [&](const TensorPiece& p) { return p.name != begin->name; });
    const std::span<const TensorPiece> tensor(begin, end);
    check_cover(folder_, tensor);
    std::vector<hdf5::VirtualPiece> sources;
    std::vector<int64_t> table;
    for (const TensorPiece& p : tensor) {
      sources.push_back({shard_name(p.shard), p.dataset(), p.first, p.count});
      table.insert(table.end(), {p.shard, p.first, p.count});
    }
    hdf5::Dataset dataset =
        index.create_virtual(begin->name, stored_type(begin->dtype), begin->whole, sources);
    // Rows (shard, first, count): the reader goes to the shards directly, so that an error names
    // the shard.
    hdf5::Dataset pieces_table =
        index.create_dataset("pieces/" + begin->name, hdf5::Type::i64, {std::ssize(tensor), 3});
    pieces_table.write<int64_t>(0, table);
    begin = end;
  }
  index.close();
  sync_to_disk(path);
}

void CheckpointWriter::finish(const CheckpointInfo& info) {
  attempt([&] { close_shard(); });
  agree();
  const std::vector<TensorPiece> pieces = gather_pieces();
  if (ranks_.rank() == 0) {
    attempt([&] {
      write_index(info, pieces);
      sync_to_disk(partial_);
      give_name(partial_, folder_);
      sync_to_disk(parent_folder(folder_));
    });
  }
  agree();  // and nobody goes on before the checkpoint is there
  finished_ = true;
}

}  // namespace ringbolt
