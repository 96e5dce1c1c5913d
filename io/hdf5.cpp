#include "io/hdf5.h"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <mutex>

#include "core/base/error.h"
#include "io/boxes.h"

namespace ringbolt::hdf5 {
namespace {

static_assert(sizeof(hid_t) == sizeof(int64_t), "Handle keeps an hid_t");

/// Held around every call: HDF5 keeps global state, and not every build of it is thread-safe.
class Session {
 public:
  Session() : lock_(mutex()) {
    // Files are closed by their owners. HDF5's own clean-up at exit crashes where a close failed on a full disk.
    static const bool no_clean_up = H5dont_atexit() >= 0;
    static_cast<void>(no_clean_up);
    // Where HDF5 is built thread-safe each thread has an error stack, and a printer, of its own.
    thread_local const bool silenced = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
    static_cast<void>(silenced);
  }

 private:
  static std::recursive_mutex& mutex() {
    static std::recursive_mutex m;
    return m;
  }
  std::lock_guard<std::recursive_mutex> lock_;
};

/// "…errno = 28, error message = 'No space left on device', buf = …" says only what is between the quotes.
std::string shorten(const std::string& reason) {
  constexpr std::string_view kMark = "error message = '";
  const size_t begin = reason.find(kMark);
  if (begin == std::string::npos) return reason;
  const size_t end = reason.find('\'', begin + kMark.size());
  return reason.substr(begin + kMark.size(), end - begin - kMark.size());
}

herr_t take_innermost(unsigned position, const H5E_error2_t* error, void* reason) {
  if (position == 0 && error->desc != nullptr) *static_cast<std::string*>(reason) = error->desc;
  return 0;
}

/// The deepest entry of HDF5's error stack, which is the cause.
std::string last_reason() {
  std::string reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, &reason);
  H5Eclear2(H5E_DEFAULT);
  return reason.empty() ? "HDF5 gave no reason" : shorten(reason);
}

std::string advice(const std::string& reason) {
  if (reason.find("No space left") != std::string::npos || reason.find("quota") != std::string::npos) {
    return "Free some space, or choose another disk.";
  }
  if (reason.find("ermission denied") != std::string::npos || reason.find("Read-only") != std::string::npos) {
    return "Check the permissions, or choose another folder.";
  }
  if (reason.find("No such file") != std::string::npos) return "Check the path.";
  return "The file is damaged or foreign; restore it from a copy or write it anew.";
}

[[noreturn]] void fail_with(const std::string& action, const std::string& object, const std::string& path,
                            const std::string& reason) {
  const std::string what = object == "/" ? path : concat(object, " of ", path);
  throw IoError(message(concat("cannot ", action, " ", what), reason, advice(reason)));
}

hid_t make_bf16() {
  const hid_t t = H5Tcopy(H5T_IEEE_F32LE);
  H5Tset_fields(t, 15, 7, 8, 0, 7);
  H5Tset_precision(t, 16);
  H5Tset_size(t, 2);
  H5Tset_ebias(t, 127);
  return t;
}

hid_t type_id(Type type) {
  static const hid_t bf16_type = make_bf16();
  switch (type) {
    case Type::f32: return H5T_IEEE_F32LE;
    case Type::bf16: return bf16_type;
    case Type::i32: return H5T_STD_I32LE;
    case Type::u16: return H5T_STD_U16LE;
    case Type::i64: return H5T_STD_I64LE;
  }
  return -1;
}

constexpr std::array kTypes{Type::f32, Type::bf16, Type::i32, Type::u16, Type::i64};

std::array<hsize_t, Shape::kMaxRank> extents(const Shape& shape) {
  std::array<hsize_t, Shape::kMaxRank> dims{};
  for (int i = 0; i < shape.rank(); ++i) dims[static_cast<size_t>(i)] = static_cast<hsize_t>(shape[i]);
  return dims;
}

Shape shape_of(const std::vector<hsize_t>& dims) {
  const auto d = [&](size_t i) { return static_cast<int64_t>(dims[i]); };
  switch (dims.size()) {
    case 1: return {d(0)};
    case 2: return {d(0), d(1)};
    case 3: return {d(0), d(1), d(2)};
    case 4: return {d(0), d(1), d(2), d(3)};
    default: return {};
  }
}

Handle space_of(const Shape& shape) {
  return Handle(H5Screate_simple(shape.rank(), extents(shape).data(), nullptr));
}

void select(const Handle& space, const Box& box) {
  const std::vector<hsize_t> start(box.start.begin(), box.start.end());
  const std::vector<hsize_t> count(box.count.begin(), box.count.end());
  H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr);
}

/// 1.10's format, whose headers and chunk indices carry checksums. (A file that is killed while it is open for writing
/// does not open again; such files only ever have a ".partial" name.)
/// `degree`: a file that was written is closed for good by close(); one that is read stays open for its datasets.
Handle file_access(H5F_close_degree_t degree) {
  Handle access(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110);
  H5Pset_fclose_degree(access.get(), degree);
  return access;
}

Handle chunked(const Shape& chunk) {
  Handle properties(H5Pcreate(H5P_DATASET_CREATE));
  H5Pset_chunk(properties.get(), chunk.rank(), extents(chunk).data());
  H5Pset_fletcher32(properties.get());
  H5Pset_fill_time(properties.get(), H5D_FILL_TIME_NEVER);
  return properties;
}

/// Whole rows of about `elements`; where one row is longer, a piece of a row.
Shape chunk_shape(const Shape& shape, int64_t elements) {
  const int64_t row = shape.row_elements();
  const int64_t rows = std::clamp<int64_t>(elements / row, 1, shape[0]);
  if (row <= elements || shape.rank() != 2) return shape.with_rows(rows);
  return Shape{1, elements};
}

Handle text_type(const std::string& text) {
  Handle type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type.get(), std::max<size_t>(text.size(), 1));
  H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  return type;
}

std::string without_padding(std::string text) {
  while (!text.empty() && text.back() == '\0') text.pop_back();
  return text;
}

}  // namespace

std::string name_of(Type type) {
  switch (type) {
    case Type::f32: return "f32";
    case Type::bf16: return "bf16";
    case Type::i32: return "i32";
    case Type::u16: return "u16";
    case Type::i64: return "i64";
  }
  return "?";
}

int64_t size_of(Type type) {
  if (type == Type::i64) return 8;
  return type == Type::bf16 || type == Type::u16 ? 2 : 4;
}

// --- Handle, Object ---------------------------------------------------------------------------------------------------

Handle& Handle::operator=(Handle&& other) noexcept {
  if (this != &other) {
    release();
    id_ = std::exchange(other.id_, -1);
    state_ = std::move(other.state_);
  }
  return *this;
}

bool Handle::release() noexcept {
  if (id_ < 0) return true;
  const Session session;
  const hid_t id = std::exchange(id_, -1);
  if (state_ && state_->failed) return true;
  // Closing a file closes what was opened in it, so an identifier may be gone already.
  const bool closed = H5Iis_valid(id) <= 0 || H5Idec_ref(id) >= 0;
  if (state_ && !closed) state_->failed = true;
  return closed;
}

void Object::fail(const std::string& action) const { fail(action, object_name_); }

void Object::fail(const std::string& action, const std::string& object) const {
  if (handle_.state()) handle_.state()->failed = true;
  fail_with(action, object, file_path_, last_reason());
}

bool Object::has_attribute(const std::string& name) const {
  const Session session;
  return H5Aexists(handle_.get(), name.c_str()) > 0;
}

void Object::write_attribute(const std::string& name, const Handle& type, const Handle& space, const void* value) {
  const Handle attribute(
      H5Acreate2(handle_.get(), name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT), handle_.state());
  if (!attribute.valid() || H5Awrite(attribute.get(), type.get(), value) < 0) {
    fail("write the attribute '" + name + "' of");
  }
}

void Object::set_attribute(const std::string& name, const std::string& text) {
  const Session session;
  const std::string padded = text.empty() ? std::string(1, '\0') : text;
  write_attribute(name, text_type(text), Handle(H5Screate(H5S_SCALAR)), padded.data());
}

void Object::set_attribute(const std::string& name, int64_t value) {
  const Session session;
  write_attribute(name, Handle(H5Tcopy(H5T_STD_I64LE)), Handle(H5Screate(H5S_SCALAR)), &value);
}

void Object::set_attribute(const std::string& name, double value) {
  const Session session;
  write_attribute(name, Handle(H5Tcopy(H5T_IEEE_F64LE)), Handle(H5Screate(H5S_SCALAR)), &value);
}

void Object::set_attribute(const std::string& name, std::span<const int64_t> values) {
  const Session session;
  write_attribute(name, Handle(H5Tcopy(H5T_STD_I64LE)), space_of({std::ssize(values)}), values.data());
}

Handle Object::open_attribute(const std::string& name) const {
  Handle attribute(H5Aopen(handle_.get(), name.c_str(), H5P_DEFAULT));
  if (!attribute.valid()) fail("read the attribute '" + name + "' of");
  return attribute;
}

std::string Object::text_attribute(const std::string& name) const {
  const Session session;
  const Handle attribute = open_attribute(name);
  const Handle type(H5Aget_type(attribute.get()));
  if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) > 0) {
    fail_with("read the attribute '" + name + "' of", object_name_, file_path_, "it is no text of fixed length");
  }
  std::string text(H5Tget_size(type.get()), '\0');
  if (H5Aread(attribute.get(), type.get(), text.data()) < 0) fail("read the attribute '" + name + "' of");
  return without_padding(std::move(text));
}

int64_t Object::integer_attribute(const std::string& name) const {
  const std::vector<int64_t> values = integers_attribute(name);
  if (values.size() != 1) {
    fail_with("read the attribute '" + name + "' of", object_name_, file_path_, "it is no single number");
  }
  return values[0];
}

double Object::real_attribute(const std::string& name) const {
  const Session session;
  const Handle attribute = open_attribute(name);
  const Handle space(H5Aget_space(attribute.get()));
  double value = 0;
  if (H5Sget_simple_extent_npoints(space.get()) != 1 ||
      H5Aread(attribute.get(), H5T_NATIVE_DOUBLE, &value) < 0) {
    fail("read the attribute '" + name + "' of");
  }
  return value;
}

std::vector<int64_t> Object::integers_attribute(const std::string& name) const {
  const Session session;
  const Handle attribute = open_attribute(name);
  const Handle space(H5Aget_space(attribute.get()));
  const hssize_t n = H5Sget_simple_extent_npoints(space.get());
  std::vector<int64_t> values(n > 0 ? static_cast<size_t>(n) : 0);
  if (n < 0 || H5Aread(attribute.get(), H5T_NATIVE_INT64, values.data()) < 0) {
    fail("read the attribute '" + name + "' of");
  }
  return values;
}

// --- Dataset ----------------------------------------------------------------------------------------------------------

Dataset::Dataset(Handle handle, std::string file_path, std::string object_name)
    : Object(std::move(handle), std::move(file_path), std::move(object_name)) {
  const Handle type(H5Dget_type(handle_.get()));
  const auto known = std::find_if(kTypes.begin(), kTypes.end(),
                                  [&](Type t) { return H5Tequal(type.get(), type_id(t)) > 0; });
  const Handle space(H5Dget_space(handle_.get()));
  const int rank = H5Sget_simple_extent_ndims(space.get());
  if (known == kTypes.end() || rank < 1 || rank > Shape::kMaxRank) {
    fail_with("open", object_name_, file_path_, "it is not an array of f32, bf16, i32, u16 or i64");
  }
  type_ = *known;
  std::vector<hsize_t> dims(static_cast<size_t>(rank));
  H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr);
  shape_ = shape_of(dims);
}

void Dataset::check_range(Type type, int64_t first, int64_t count) const {
  if (type != type_) {
    fail_with("use", object_name_, file_path_, concat("it holds ", name_of(type_), ", not ", name_of(type)));
  }
  if (first < 0 || count < 0 || first > elements() - count) {
    fail_with("use", object_name_, file_path_,
              concat("elements ", first, " to ", first + count, " lie outside its ", elements()));
  }
}

void Dataset::write_range(Type type, int64_t first, int64_t count, const void* values) {
  const Session session;
  check_range(type, first, count);
  for (const Box& box : boxes_of_range(shape_, first, count)) {
    const Handle file_space(H5Dget_space(handle_.get()));
    select(file_space, box);
    const Handle memory_space = space_of({H5Sget_select_npoints(file_space.get())});
    const auto* from = static_cast<const std::byte*>(values) + box.offset * size_of(type);
    if (H5Dwrite(handle_.get(), type_id(type), memory_space.get(), file_space.get(), H5P_DEFAULT, from) < 0) {
      fail("write");
    }
  }
}

void Dataset::read_range(Type type, int64_t first, int64_t count, void* values) const {
  const Session session;
  check_range(type, first, count);
  for (const Box& box : boxes_of_range(shape_, first, count)) {
    const Handle file_space(H5Dget_space(handle_.get()));
    select(file_space, box);
    const Handle memory_space = space_of({H5Sget_select_npoints(file_space.get())});
    auto* to = static_cast<std::byte*>(values) + box.offset * size_of(type);
    if (H5Dread(handle_.get(), type_id(type), memory_space.get(), file_space.get(), H5P_DEFAULT, to) < 0) {
      fail("read");
    }
  }
}

void Dataset::extend(int64_t more) {
  const Session session;
  const Shape longer{shape_[0] + more};
  if (H5Dset_extent(handle_.get(), extents(longer).data()) < 0) fail("extend");
  shape_ = longer;
}

// --- File -------------------------------------------------------------------------------------------------------------

File::File(Handle handle, std::string path) : Object(std::move(handle), std::move(path), "/") {}

File File::create(const std::string& path, const Stamp& stamp) {
  const Session session;
  const Handle access = file_access(H5F_CLOSE_STRONG);  // lives until the reason was read: closing it would clear that
  const hid_t id = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get());
  if (id < 0) fail_with("create", "/", path, last_reason());
  File file(Handle(id, std::make_shared<WriteState>()), path);
  file.set_attribute("format", stamp.format);
  file.set_attribute("schema_version", stamp.schema_version);
  file.set_attribute("build", stamp.build);
  file.stamp_ = stamp;
  return file;
}

File File::open_unchecked(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) fail_with("open", "/", path, error.message());
  if (size == 0) fail_with("open", "/", path, "the file is empty");
  const Handle access = file_access(H5F_CLOSE_WEAK);
  if (H5Fis_hdf5(path.c_str()) == 0) fail_with("open", "/", path, "it is not an HDF5 file");
  const hid_t id = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get());
  if (id < 0) fail_with("open", "/", path, last_reason());
  File file(Handle(id), path);
  if (!file.has_attribute("format") || !file.has_attribute("schema_version")) {
    fail_with("open", "/", path, "it is an HDF5 file, but none that Ringbolt wrote");
  }
  file.stamp_.format = file.text_attribute("format");
  file.stamp_.schema_version = file.integer_attribute("schema_version");
  file.stamp_.build = file.has_attribute("build") ? file.text_attribute("build") : "";
  return file;
}

File File::open(const std::string& path, std::string_view format, int64_t newest_schema) {
  const Session session;
  File file = open_unchecked(path);
  if (file.stamp_.format != format) {
    throw IoError(message(concat("cannot open ", path), concat("it is a ", file.stamp_.format, " file, not ", format),
                          "Name a file of that kind."));
  }
  if (file.stamp_.schema_version > newest_schema) {
    throw IoError(message(concat("cannot open ", path),
                          concat("its schema is version ", file.stamp_.schema_version, ", this build reads up to ",
                                 newest_schema),
                          "Use a newer Ringbolt."));
  }
  return file;
}

Stamp File::stamp_of(const std::string& path) {
  const Session session;
  return open_unchecked(path).stamp_;
}

Handle File::new_dataset(const std::string& name, Type type, const Handle& space, const Handle& properties) {
  const Handle links(H5Pcreate(H5P_LINK_CREATE));
  H5Pset_create_intermediate_group(links.get(), 1);
  const hid_t id = H5Dcreate2(handle_.get(), name.c_str(), type_id(type), space.get(), links.get(), properties.get(),
                              H5P_DEFAULT);
  if (id < 0) fail("create", name);
  return Handle(id, handle_.state());
}

Dataset File::create_dataset(const std::string& name, Type type, const Shape& shape, int64_t chunk_elements) {
  const Session session;
  const Handle properties = chunked(chunk_shape(shape, chunk_elements));
  return Dataset(new_dataset(name, type, space_of(shape), properties), file_path_, name);
}

Dataset File::create_extendible(const std::string& name, Type type, int64_t chunk_elements) {
  const Session session;
  const std::array<hsize_t, 1> now{0};
  const std::array<hsize_t, 1> most{H5S_UNLIMITED};
  const Handle space(H5Screate_simple(1, now.data(), most.data()));
  return Dataset(new_dataset(name, type, space, chunked({chunk_elements})), file_path_, name);
}

Dataset File::create_virtual(const std::string& name, Type type, const Shape& shape,
                             std::span<const VirtualPiece> pieces) {
  const Session session;
  const Handle properties(H5Pcreate(H5P_DATASET_CREATE));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const bf16 nan16 = to_bf16(nan);
  const int64_t lowest = std::numeric_limits<int64_t>::min();
  if (type == Type::f32) H5Pset_fill_value(properties.get(), type_id(type), &nan);
  if (type == Type::bf16) H5Pset_fill_value(properties.get(), type_id(type), &nan16);
  if (type == Type::i64) H5Pset_fill_value(properties.get(), type_id(type), &lowest);
  const Handle space = space_of(shape);
  for (const VirtualPiece& piece : pieces) {
    for (const Box& box : boxes_of_range(shape, piece.first, piece.count)) {
      select(space, box);
      const Handle source = space_of({piece.count});
      select(source, {{box.offset}, {H5Sget_select_npoints(space.get())}, 0});
      if (H5Pset_virtual(properties.get(), space.get(), piece.file.c_str(), piece.dataset.c_str(), source.get()) < 0) {
        fail("map a piece of", name);
      }
    }
  }
  H5Sselect_all(space.get());
  return Dataset(new_dataset(name, type, space, properties), file_path_, name);
}

void File::write_text(const std::string& name, const std::string& text) {
  const Session session;
  const Handle type = text_type(text);
  const Handle space(H5Screate(H5S_SCALAR));
  const Handle dataset(H5Dcreate2(handle_.get(), name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT,
                                  H5P_DEFAULT),
                       handle_.state());
  const std::string padded = text.empty() ? std::string(1, '\0') : text;
  if (!dataset.valid() ||
      H5Dwrite(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, padded.data()) < 0) {
    fail("write", name);
  }
}

bool File::has(const std::string& name) const {
  const Session session;
  // Every group on the way must exist before HDF5 may be asked for the next.
  for (size_t slash = name.find('/', 1); slash != std::string::npos; slash = name.find('/', slash + 1)) {
    if (H5Lexists(handle_.get(), name.substr(0, slash).c_str(), H5P_DEFAULT) <= 0) return false;
  }
  return H5Lexists(handle_.get(), name.c_str(), H5P_DEFAULT) > 0;
}

Dataset File::dataset(const std::string& name) const {
  const Session session;
  if (!has(name)) fail_with("open", name, file_path_, "there is no such dataset");
  Handle dataset(H5Dopen2(handle_.get(), name.c_str(), H5P_DEFAULT), handle_.state());
  if (!dataset.valid()) fail("open", name);
  return Dataset(std::move(dataset), file_path_, name);
}

std::string File::text(const std::string& name) const {
  const Session session;
  if (!has(name)) fail_with("open", name, file_path_, "there is no such text");
  const Handle dataset(H5Dopen2(handle_.get(), name.c_str(), H5P_DEFAULT), handle_.state());
  if (!dataset.valid()) fail("open", name);
  const Handle type(H5Dget_type(dataset.get()));
  if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) > 0) {
    fail_with("read", name, file_path_, "it is no text of fixed length");
  }
  std::string text(H5Tget_size(type.get()), '\0');
  if (H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()) < 0) fail("read", name);
  return without_padding(std::move(text));
}

std::vector<std::string> File::dataset_names() const {
  const Session session;
  std::vector<std::string> names;
  const auto visit = [](hid_t root, const char* name, const H5O_info_t* info, void* list) -> herr_t {
    if (info->type != H5O_TYPE_DATASET) return 0;
    const Handle dataset(H5Dopen2(root, name, H5P_DEFAULT));
    const Handle type(H5Dget_type(dataset.get()));
    if (H5Tget_class(type.get()) != H5T_STRING) static_cast<std::vector<std::string>*>(list)->emplace_back(name);
    return 0;
  };
  if (H5Ovisit2(handle_.get(), H5_INDEX_NAME, H5_ITER_INC, visit, &names, H5O_INFO_BASIC) < 0) fail("list");
  std::sort(names.begin(), names.end());
  return names;
}

void File::close() {
  const Session session;
  if (!handle_.valid()) return;
  if (H5Fflush(handle_.get(), H5F_SCOPE_GLOBAL) < 0) fail("finish");
  if (!handle_.release()) fail_with("finish", "/", file_path_, last_reason());
}

}  // namespace ringbolt::hdf5
