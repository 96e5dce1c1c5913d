#include "io/hdf5.h"

#include <hdf5.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "core/base/error.h"
#include "io/hdf5.internal.h"

namespace ringbolt::hdf5 {
namespace {

/// 1.10's format, whose headers and chunk indices carry checksums. (A file that is killed while it
/// is open for writing does not open again; such files only ever have a ".partial" name.) `degree`:
/// a file that was written is closed for good by close(); one that is read stays open for its
/// datasets.
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

}  // namespace

File::File(Handle handle, std::string path) : Object(std::move(handle), std::move(path), "/") {}

File File::create(const std::string& path, const Stamp& stamp) {
  const Session session;
  const Handle access = file_access(
      H5F_CLOSE_STRONG);  // lives until the reason was read: closing it would clear that
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
    throw IoError(message(concat("cannot open ", path),
                          concat("it is a ", file.stamp_.format, " file, not ", format),
                          "Name a file of that kind."));
  }
  if (file.stamp_.schema_version > newest_schema) {
    throw IoError(message(concat("cannot open ", path),
                          concat("its schema is version ", file.stamp_.schema_version,
                                 ", this build reads up to ", newest_schema),
                          "Use a newer Ringbolt."));
  }
  return file;
}

Stamp File::stamp_of(const std::string& path) {
  const Session session;
  return open_unchecked(path).stamp_;
}

Handle File::new_dataset(const std::string& name, Type type, const Handle& space,
                         const Handle& properties) {
  const Handle links(H5Pcreate(H5P_LINK_CREATE));
  H5Pset_create_intermediate_group(links.get(), 1);
  const hid_t id = H5Dcreate2(handle_.get(), name.c_str(), type_id(type), space.get(), links.get(),
                              properties.get(), H5P_DEFAULT);
  if (id < 0) fail("create", name);
  return Handle(id, handle_.state());
}

Dataset File::create_dataset(const std::string& name, Type type, const Shape& shape,
                             int64_t chunk_elements) {
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
      if (H5Pset_virtual(properties.get(), space.get(), piece.file.c_str(), piece.dataset.c_str(),
                         source.get()) < 0) {
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
  const Handle dataset(H5Dcreate2(handle_.get(), name.c_str(), type.get(), space.get(), H5P_DEFAULT,
                                  H5P_DEFAULT, H5P_DEFAULT),
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
  for (size_t slash = name.find('/', 1); slash != std::string::npos;
       slash = name.find('/', slash + 1)) {
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
  if (H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()) < 0)
    fail("read", name);
  return without_padding(std::move(text));
}

std::vector<std::string> File::dataset_names() const {
  const Session session;
  std::vector<std::string> names;
  const auto visit = [](hid_t root, const char* name, const H5O_info_t* info,
                        void* list) -> herr_t {
    if (info->type != H5O_TYPE_DATASET) return 0;
    const Handle dataset(H5Dopen2(root, name, H5P_DEFAULT));
    const Handle type(H5Dget_type(dataset.get()));
    if (H5Tget_class(type.get()) != H5T_STRING)
      static_cast<std::vector<std::string>*>(list)->emplace_back(name);
    return 0;
  };
  if (H5Ovisit2(handle_.get(), H5_INDEX_NAME, H5_ITER_INC, visit, &names, H5O_INFO_BASIC) < 0)
    fail("list");
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
