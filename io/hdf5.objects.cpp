#include <hdf5.h>

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "io/hdf5.h"
#include "io/hdf5.internal.h"

#ifdef __SANITIZE_ADDRESS__
// HDF5 1.10 loses memory of its own where it refuses a damaged file; the leak checker would blame
// us.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5\n"; }
#endif

namespace ringbolt::hdf5 {
namespace {

/// "…errno = 28, error message = 'No space left on device', buf = …" says only what is between the
/// quotes.
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

std::string advice(const std::string& reason) {
  if (reason.find("No space left") != std::string::npos ||
      reason.find("quota") != std::string::npos) {
    return "Free some space, or choose another disk.";
  }
  if (reason.find("ermission denied") != std::string::npos ||
      reason.find("Read-only") != std::string::npos) {
    return "Check the permissions, or choose another folder.";
  }
  if (reason.find("No such file") != std::string::npos) return "Check the path.";
  return "The file is damaged or foreign; restore it from a copy or write it anew.";
}

hid_t make_bf16() {
  const hid_t t = H5Tcopy(H5T_IEEE_F32LE);
  H5Tset_fields(t, 15, 7, 8, 0, 7);
  H5Tset_precision(t, 16);
  H5Tset_size(t, 2);
  H5Tset_ebias(t, 127);
  return t;
}

constexpr std::array kTypes{Type::f32, Type::bf16, Type::i32, Type::u16, Type::i64};

Shape shape_of(const std::vector<hsize_t>& dims) {
  const auto d = [&](size_t i) { return static_cast<int64_t>(dims[i]); };
  switch (dims.size()) {
    case 1:
      return {d(0)};
    case 2:
      return {d(0), d(1)};
    case 3:
      return {d(0), d(1), d(2)};
    case 4:
      return {d(0), d(1), d(2), d(3)};
    default:
      return {};
  }
}

}  // namespace

std::string last_reason() {
  std::string reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, &reason);
  H5Eclear2(H5E_DEFAULT);
  return reason.empty() ? "HDF5 gave no reason" : shorten(reason);
}

void fail_with(const std::string& action, const std::string& object, const std::string& path,
               const std::string& reason) {
  const std::string what = object == "/" ? path : concat(object, " of ", path);
  throw IoError(message(concat("cannot ", action, " ", what), reason, advice(reason)));
}

hid_t type_id(Type type) {
  static const hid_t bf16_type = make_bf16();
  switch (type) {
    case Type::f32:
      return H5T_IEEE_F32LE;
    case Type::bf16:
      return bf16_type;
    case Type::i32:
      return H5T_STD_I32LE;
    case Type::u16:
      return H5T_STD_U16LE;
    case Type::i64:
      return H5T_STD_I64LE;
  }
  return -1;
}

std::array<hsize_t, Shape::kMaxRank> extents(const Shape& shape) {
  std::array<hsize_t, Shape::kMaxRank> dims{};
  for (int i = 0; i < shape.rank(); ++i)
    dims[static_cast<size_t>(i)] = static_cast<hsize_t>(shape[i]);
  return dims;
}

Handle space_of(const Shape& shape) {
  return Handle(H5Screate_simple(shape.rank(), extents(shape).data(), nullptr));
}

void select(const Handle& space, const Box& box) {
  const std::vector<hsize_t> start(box.start.begin(), box.start.end());
  const std::vector<hsize_t> count(box.count.begin(), box.count.end());
  H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr);
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

std::string name_of(Type type) {
  switch (type) {
    case Type::f32:
      return "f32";
    case Type::bf16:
      return "bf16";
    case Type::i32:
      return "i32";
    case Type::u16:
      return "u16";
    case Type::i64:
      return "i64";
  }
  return "?";
}

int64_t size_of(Type type) {
  if (type == Type::i64) return 8;
  return type == Type::bf16 || type == Type::u16 ? 2 : 4;
}

// --- Handle, Object ------------------------------------------------------------------------------

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

void Object::write_attribute(const std::string& name, const Handle& type, const Handle& space,
                             const void* value) {
  const Handle attribute(
      H5Acreate2(handle_.get(), name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT),
      handle_.state());
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
  write_attribute(name, Handle(H5Tcopy(H5T_STD_I64LE)), space_of({std::ssize(values)}),
                  values.data());
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
    fail_with("read the attribute '" + name + "' of", object_name_, file_path_,
              "it is no text of fixed length");
  }
  std::string text(H5Tget_size(type.get()), '\0');
  if (H5Aread(attribute.get(), type.get(), text.data()) < 0)
    fail("read the attribute '" + name + "' of");
  return without_padding(std::move(text));
}

int64_t Object::integer_attribute(const std::string& name) const {
  const std::vector<int64_t> values = integers_attribute(name);
  if (values.size() != 1) {
    fail_with("read the attribute '" + name + "' of", object_name_, file_path_,
              "it is no single number");
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

// --- Dataset -------------------------------------------------------------------------------------

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
    fail_with("use", object_name_, file_path_,
              concat("it holds ", name_of(type_), ", not ", name_of(type)));
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
    if (H5Dwrite(handle_.get(), type_id(type), memory_space.get(), file_space.get(), H5P_DEFAULT,
                 from) < 0) {
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
    if (H5Dread(handle_.get(), type_id(type), memory_space.get(), file_space.get(), H5P_DEFAULT,
                to) < 0) {
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

}  // namespace ringbolt::hdf5
