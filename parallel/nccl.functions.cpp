#include "parallel/nccl.functions.h"

#include <dlfcn.h>

#include <optional>

#include "core/base/error.h"

namespace ringbolt {
namespace {

/// With ncclCommFinalize and communicators that do not block.
constexpr int kOldestVersion = NCCL_VERSION(2, 18, 0);

struct Found {
  NcclLibrary functions{};
  std::string problem;  ///< as an error's one line
};

class Loader {
 public:
  Loader() {
    if (dlsym(RTLD_DEFAULT, "ncclGetVersion") != nullptr) return;
    library_ = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (library_ != nullptr) return;
    const char* why = dlerror();
    problem_ =
        message("NCCL cannot be used", why == nullptr ? "libnccl.so.2 is not here" : why,
                "Install it or name its folder in LD_LIBRARY_PATH, or use --communicator copy.");
  }
  template <class F>
  void find(F& function, const char* name) {
    if (!problem_.empty()) return;
    function = reinterpret_cast<F>(dlsym(library_ == nullptr ? RTLD_DEFAULT : library_, name));
    if (function == nullptr) {
      problem_ = message("this NCCL cannot be used", concat("it has no function ", name),
                         concat(nccl_version_text(kOldestVersion),
                                " or newer is needed, or --communicator copy."));
    }
  }
  const std::string& problem() const { return problem_; }

 private:
  void* library_ = nullptr;  // stays open
  std::string problem_;
};

Found load() {
  Found found;
  Loader loader;
  NcclLibrary& f = found.functions;
  loader.find(f.GetVersion, "ncclGetVersion");
  loader.find(f.GetUniqueId, "ncclGetUniqueId");
  loader.find(f.GetErrorString, "ncclGetErrorString");
  loader.find(f.GetLastError, "ncclGetLastError");
  loader.find(f.CommInitRankConfig, "ncclCommInitRankConfig");
  loader.find(f.CommGetAsyncError, "ncclCommGetAsyncError");
  loader.find(f.CommFinalize, "ncclCommFinalize");
  loader.find(f.CommDestroy, "ncclCommDestroy");
  loader.find(f.CommAbort, "ncclCommAbort");
  loader.find(f.GroupStart, "ncclGroupStart");
  loader.find(f.GroupEnd, "ncclGroupEnd");
  loader.find(f.Send, "ncclSend");
  loader.find(f.Recv, "ncclRecv");
  loader.find(f.AllReduce, "ncclAllReduce");
  loader.find(f.AllGather, "ncclAllGather");
  loader.find(f.ReduceScatter, "ncclReduceScatter");
  found.problem = loader.problem();
  int version = 0;
  if (!found.problem.empty()) return found;
  if (f.GetVersion(&version) == ncclSuccess && version >= kOldestVersion) return found;
  found.problem = message(concat("this NCCL cannot be used: ", nccl_version_text(version)),
                          concat(nccl_version_text(kOldestVersion), " or newer is needed"),
                          "See which libnccl.so.2 the program finds (LD_LIBRARY_PATH), or use "
                          "--communicator copy.");
  return found;
}

const Found& found() {
  static const Found once = load();
  return once;
}

}  // namespace

const NcclLibrary& nccl() {
  if (!found().problem.empty()) throw CommError(found().problem);
  return found().functions;
}

const std::string& why_no_nccl() { return found().problem; }

std::string nccl_version_text(int version) {
  return concat("NCCL ", version / 10000, ".", version / 100 % 100, ".", version % 100);
}

}  // namespace ringbolt
