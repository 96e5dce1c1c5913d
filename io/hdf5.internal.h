// What the sources of the HDF5 door share. Nothing else includes it: it shows HDF5's own types.
#pragma once

#include <hdf5.h>

#include <array>
#include <mutex>
#include <string>

#include "io/boxes.h"
#include "io/hdf5.h"

namespace ringbolt::hdf5 {

static_assert(sizeof(hid_t) == sizeof(int64_t), "Handle keeps an hid_t");

/// Held around every call: HDF5 keeps global state, and not every build of it is thread-safe.
class Session {
 public:
  Session() : lock_(mutex()) {
    // Files are closed by their owners. HDF5's own clean-up at exit crashes where a close failed on
    // a full disk.
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

/// The deepest entry of HDF5's error stack, which is the cause; shortened to what the system said.
std::string last_reason();
/// "cannot <action> <object> of <path> (<reason>). <what to try>."
[[noreturn]] void fail_with(const std::string& action, const std::string& object,
                            const std::string& path, const std::string& reason);

hid_t type_id(Type type);
std::array<hsize_t, Shape::kMaxRank> extents(const Shape& shape);
Handle space_of(const Shape& shape);
void select(const Handle& space, const Box& box);
/// Of fixed length, so that it lies where checksums cover it.
Handle text_type(const std::string& text);
std::string without_padding(std::string text);

}  // namespace ringbolt::hdf5
