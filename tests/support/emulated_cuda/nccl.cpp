// A stand-in for NCCL between the ranks of a process on the emulated CUDA device. What ranks
// exchange meets when their streams run it, first come, first served, as NCCL's kernels do: so a
// captured exchange meets anew in every launch of its graph.
#include <nccl.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "tests/support/collectives.h"
#include "tests/support/emulated_cuda/device.h"

namespace {

using ringbolt::emulated_cuda::Device;
using ringbolt::test::Collective;
using ringbolt::test::concatenation;
using ringbolt::test::sums;

/// A send whose stream has come to it.
struct Offer {
  const void* source;
  size_t bytes;
  bool taken = false;
};

/// A collective that the streams of some ranks have come to.
struct Gathering {
  std::vector<const void*> inputs;
  int arrived = 0;
  int computed = 0;
};

/// The ranks of one unique id. All but what the mutex guards belongs to the device's work.
struct Group {
  int ranks = 0;
  std::atomic<int> joined = 0;
  std::atomic<bool> aborted = false;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Offer>>> mail;  ///< by sender, receiver
  std::map<int64_t, std::shared_ptr<Gathering>> gatherings;
};

std::mutex mutex;
std::map<int64_t, std::shared_ptr<Group>> groups;
int64_t next_id = 1;

}  // namespace

struct ncclComm {
  std::shared_ptr<Group> group;
  int rank = 0;
  std::shared_ptr<int64_t> collectives = std::make_shared<int64_t>(0);  ///< that its stream ran
};

namespace {

struct Message {
  ncclComm_t comm;
  cudaStream_t stream;
  const void* source;
  void* target;  ///< of a receive
  size_t bytes;
  int peer;
};

thread_local int depth = 0;
thread_local std::vector<Message> grouped;
thread_local cudaError_t failed = cudaSuccess;

size_t size_of_type(ncclDataType_t type) { return type == ncclFloat32 ? 4 : 1; }

void give(cudaStream_t stream, const std::shared_ptr<Group>& group, std::function<bool()> ready,
          std::function<void()> run) {
  const cudaError_t status = Device::get().enqueue_when(
      stream, "NCCL", [=] { return group->aborted || ready(); },
      [=] {
        if (!group->aborted) run();
      });
  if (status != cudaSuccess) failed = status;
}
bool always() { return true; }

/// In a group all that is sent is offered before anything is waited for.
void launch(const std::vector<Message>& messages) {
  std::map<cudaStream_t, std::shared_ptr<std::vector<std::shared_ptr<Offer>>>> offered;
  for (const Message& m : messages) {
    if (m.target != nullptr) continue;
    auto& offers = offered[m.stream];
    if (offers == nullptr) offers = std::make_shared<std::vector<std::shared_ptr<Offer>>>();
    give(m.stream, m.comm->group, always, [group = m.comm->group, offers, m, from = m.comm->rank] {
      Device::get().require_device(m.source, m.bytes, "ncclSend");
      offers->push_back(std::make_shared<Offer>(Offer{m.source, m.bytes}));
      group->mail[{from, m.peer}].push_back(offers->back());
    });
  }
  for (const Message& m : messages) {
    if (m.target == nullptr) continue;
    const auto group = m.comm->group;
    const std::pair<int, int> ends{m.peer, m.comm->rank};
    give(
        m.stream, group, [group, ends] { return !group->mail[ends].empty(); },
        [group, ends, m] {
          Device::get().require_device(m.target, m.bytes, "ncclRecv");
          const std::shared_ptr<Offer> offer = group->mail[ends].front();
          group->mail[ends].pop_front();
          if (offer->bytes != m.bytes)
            ringbolt::emulated_cuda::fail("NCCL: a rank receives other bytes than are sent");
          if (m.bytes > 0) std::memcpy(m.target, offer->source, m.bytes);
          offer->taken = true;
        });
  }
  for (const auto& [stream, offers] : offered) {
    give(
        stream, messages.front().comm->group,
        [offers = offers] {
          for (const auto& offer : *offers) {
            if (!offer->taken) return false;
          }
          return true;
        },
        [offers = offers] { offers->clear(); });
  }
}

ncclResult_t post(const Message& message) {
  if (message.comm->group->aborted || depth == 0) return ncclInvalidUsage;
  grouped.push_back(message);
  return ncclSuccess;
}

ncclResult_t collect(ncclComm_t comm, cudaStream_t stream, const void* input, void* output,
                     size_t bytes, const Collective& compute) {
  const auto group = comm->group;
  if (group->aborted) return ncclInvalidUsage;
  struct Part {
    std::shared_ptr<Gathering> gathering;
    std::vector<std::byte> result;
  };
  const auto part = std::make_shared<Part>();
  const auto me = static_cast<size_t>(comm->rank);
  give(stream, group, always, [=, count = comm->collectives] {
    auto& gathering = group->gatherings[(*count)++];
    if (gathering == nullptr) gathering = std::make_shared<Gathering>();
    gathering->inputs.resize(static_cast<size_t>(group->ranks));
    gathering->inputs[me] = input;
    ++gathering->arrived;
    part->gathering = gathering;
  });
  give(
      stream, group, [=] { return part->gathering->arrived == group->ranks; },
      [=] {
        part->result.resize(bytes);
        compute(part->gathering->inputs, part->result.data());
        ++part->gathering->computed;
      });
  give(
      stream, group, [=] { return part->gathering->computed == group->ranks; },
      [=] {
        Device::get().require_device(output, bytes, "a collective of NCCL");
        if (bytes > 0) std::memcpy(output, part->result.data(), bytes);
      });
  return ncclSuccess;
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = 22809;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t) { return "an error of the stand-in"; }
const char* ncclGetLastError(ncclComm_t) { return ""; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const std::lock_guard lock(mutex);
  const int64_t number = next_id++;
  std::memcpy(id->internal, &number, sizeof(number));
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t*) {
  const std::lock_guard lock(mutex);
  int64_t number = 0;
  std::memcpy(&number, id.internal, sizeof(number));
  auto& group = groups[number];
  if (group == nullptr) group = std::make_shared<Group>();
  group->ranks = ranks;
  ++group->joined;
  *comm = new ncclComm{.group = group, .rank = rank};
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  *state = comm->group->joined < comm->group->ranks ? ncclInProgress : ncclSuccess;
  if (comm->group->aborted) *state = ncclRemoteError;
  return ncclSuccess;
}
ncclResult_t ncclCommFinalize(ncclComm_t) { return ncclInProgress; }
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->group->aborted = true;
  Device::get().look_again();
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (--depth > 0) return ncclSuccess;
  if (!grouped.empty()) launch(std::exchange(grouped, {}));
  return std::exchange(failed, cudaSuccess) == cudaSuccess ? ncclInProgress
                                                           : ncclUnhandledCudaError;
}

ncclResult_t ncclSend(const void* source, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return post({comm, stream, source, nullptr, count * size_of_type(type), peer});
}
ncclResult_t ncclRecv(void* target, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return post({comm, stream, nullptr, target, count * size_of_type(type), peer});
}

ncclResult_t ncclAllReduce(const void* input, void* output, size_t count, ncclDataType_t,
                           ncclRedOp_t, ncclComm_t comm, cudaStream_t stream) {
  return collect(comm, stream, input, output, count * sizeof(float), sums(0, count));
}
ncclResult_t ncclReduceScatter(const void* input, void* output, size_t count, ncclDataType_t,
                               ncclRedOp_t, ncclComm_t comm, cudaStream_t stream) {
  const size_t first = static_cast<size_t>(comm->rank) * count;
  return collect(comm, stream, input, output, count * sizeof(float), sums(first, count));
}
ncclResult_t ncclAllGather(const void* input, void* output, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  const size_t bytes = count * size_of_type(type);
  return collect(comm, stream, input, output, bytes * static_cast<size_t>(comm->group->ranks),
                 concatenation(bytes));
}

}  // extern "C"
