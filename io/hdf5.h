// The only door to HDF5.
//
// Files, datasets and attributes that close themselves and report every failure as one IoError that
// names the file, the object and HDF5's own reason. Elements are never converted by HDF5 (its float
// to bf16 conversion is wrong where rounding carries into the exponent): memory and file always
// hold the same bits, and a dataset of another type is refused. Datasets are chunked with
// Fletcher-32 checksums, and the file format is 1.10's, whose metadata is checksummed too. Not
// every build of HDF5 is thread-safe, so one lock serves the process: ranks that are threads may
// use it at once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/bf16.h"
#include "core/base/shape.h"

namespace ringbolt::hdf5 {

/// Element types, all little-endian. bf16 is a custom 16-bit float, which h5dump and h5py read as
/// numbers.
enum class Type { f32, bf16, i32, u16, i64 };
std::string name_of(Type type);
int64_t size_of(Type type);

template <class T>
struct TypeOf;
template <>
struct TypeOf<float> {
  static constexpr Type value = Type::f32;
};
template <>
struct TypeOf<bf16> {
  static constexpr Type value = Type::bf16;
};
template <>
struct TypeOf<int32_t> {
  static constexpr Type value = Type::i32;
};
template <>
struct TypeOf<uint16_t> {
  static constexpr Type value = Type::u16;
};
template <>
struct TypeOf<int64_t> {
  static constexpr Type value = Type::i64;
};

/// What every file says about itself, as attributes of its root: format ("ringbolt-tokens"),
/// schema_version, build.
struct Stamp {
  std::string format;
  int64_t schema_version = 1;
  std::string build;  ///< the program that wrote it
};

/// Shared by all handles of a file that is being written. After a failure (a full disk) HDF5 must
/// not be called for that file again, not even to close it: closing half-closed objects crashes.
/// Such a file is abandoned, open, until the end of the process; whoever made it empties and
/// removes it.
struct WriteState {
  bool failed = false;
};

/// An identifier of HDF5, released by the destructor.
class Handle {
 public:
  Handle() = default;
  explicit Handle(int64_t id, std::shared_ptr<WriteState> state = nullptr)
      : id_(id), state_(std::move(state)) {}
  Handle(Handle&& other) noexcept
      : id_(std::exchange(other.id_, -1)), state_(std::move(other.state_)) {}
  Handle& operator=(Handle&& other) noexcept;
  ~Handle() { release(); }
  int64_t get() const { return id_; }
  bool valid() const { return id_ >= 0; }
  const std::shared_ptr<WriteState>& state() const { return state_; }
  /// Returns false where closing failed.
  bool release() noexcept;

 private:
  int64_t id_ = -1;
  std::shared_ptr<WriteState> state_;
};

/// What attributes can be attached to: a file (its root) or a dataset.
class Object {
 public:
  bool has_attribute(const std::string& name) const;
  void set_attribute(const std::string& name, const std::string& text);
  void set_attribute(const std::string& name, int64_t value);
  void set_attribute(const std::string& name, double value);
  void set_attribute(const std::string& name, std::span<const int64_t> values);
  std::string text_attribute(const std::string& name) const;
  int64_t integer_attribute(const std::string& name) const;
  double real_attribute(const std::string& name) const;
  std::vector<int64_t> integers_attribute(const std::string& name) const;

  const std::string& file_path() const { return file_path_; }
  /// "/" for a file.
  const std::string& object_name() const { return object_name_; }

 protected:
  Object() = default;
  Object(Handle handle, std::string file_path, std::string object_name)
      : handle_(std::move(handle)),
        file_path_(std::move(file_path)),
        object_name_(std::move(object_name)) {}
  /// Throws HDF5's last error; a file that is being written is abandoned.
  [[noreturn]] void fail(const std::string& action) const;
  [[noreturn]] void fail(const std::string& action, const std::string& object) const;

  Handle handle_;
  std::string file_path_;
  std::string object_name_;

 private:
  void write_attribute(const std::string& name, const Handle& type, const Handle& space,
                       const void* value);
  Handle open_attribute(const std::string& name) const;
};

class Dataset : public Object {
 public:
  Type type() const { return type_; }
  const Shape& shape() const { return shape_; }
  int64_t elements() const { return shape_.elements(); }

  /// Writes or reads the flat (row-major) range that begins at element `first`.
  /// Throws: IoError where T is not the dataset's type or the range leaves the dataset.
  template <class T>
  void write(int64_t first, std::span<const T> values) {
    write_range(TypeOf<T>::value, first, std::ssize(values), values.data());
  }
  template <class T>
  void read(int64_t first, std::span<T> values) const {
    read_range(TypeOf<T>::value, first, std::ssize(values), values.data());
  }
  /// Adds to the end. Requires: made by create_extendible.
  template <class T>
  void append(std::span<const T> values) {
    extend(std::ssize(values));
    write(elements() - std::ssize(values), values);
  }
  /// The same for a type known at run time; `values` holds `count` elements of `type`.
  void write_range(Type type, int64_t first, int64_t count, const void* values);
  void read_range(Type type, int64_t first, int64_t count, void* values) const;

 private:
  friend class File;
  Dataset(Handle handle, std::string file_path, std::string object_name);
  void check_range(Type type, int64_t first, int64_t count) const;
  void extend(int64_t more);

  Type type_ = Type::f32;
  Shape shape_;
};

/// A flat range of a virtual dataset and the one-dimensional dataset that holds it.
struct VirtualPiece {
  std::string file;     ///< relative to the folder of the virtual dataset's file
  std::string dataset;  ///< of exactly `count` elements
  int64_t first = 0;
  int64_t count = 0;
};

class File : public Object {
 public:
  /// Replaces what is there: give it a ".partial" name (io/atomic_file.h).
  static File create(const std::string& path, const Stamp& stamp);
  /// For reading. Throws: IoError where it is missing, empty, not HDF5, truncated, not of `format`,
  /// or of a newer schema.
  static File open(const std::string& path, std::string_view format, int64_t newest_schema = 1);
  /// The stamp of any file of Ringbolt's.
  static Stamp stamp_of(const std::string& path);

  const Stamp& stamp() const { return stamp_; }

  /// Chunked by whole rows of about `chunk_elements`, with checksums. Intermediate groups are made.
  /// Unwritten elements are undefined. Requires: 1 to 4 dimensions, none of them 0.
  Dataset create_dataset(const std::string& name, Type type, const Shape& shape,
                         int64_t chunk_elements = kChunkElements);
  /// One-dimensional, empty, growing by Dataset::append.
  Dataset create_extendible(const std::string& name, Type type,
                            int64_t chunk_elements = kChunkElements);
  /// Shows pieces that lie in other files as one array. What no piece covers, or whose file is
  /// missing, reads as NaN (floats) or the lowest value (integers).
  Dataset create_virtual(const std::string& name, Type type, const Shape& shape,
                         std::span<const VirtualPiece> pieces);
  /// A text of any length as a scalar string dataset.
  void write_text(const std::string& name, const std::string& text);

  bool has(const std::string& name) const;
  Dataset dataset(const std::string& name) const;
  std::string text(const std::string& name) const;
  /// All datasets of numbers, by path ("weights/model.norm.weight"), sorted.
  std::vector<std::string> dataset_names() const;

  /// Flushes and closes; datasets of this file must no longer be used. Without it the destructor
  /// closes and errors are lost. (A file opened for reading needs no close, and its datasets
  /// outlive it.)
  void close();

  static constexpr int64_t kChunkElements = int64_t{1} << 18;

 private:
  File(Handle handle, std::string path);
  static File open_unchecked(const std::string& path);
  Handle new_dataset(const std::string& name, Type type, const Handle& space,
                     const Handle& properties);

  Stamp stamp_;
};

}  // namespace ringbolt::hdf5
