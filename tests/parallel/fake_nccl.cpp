#include "tests/parallel/fake_nccl.h"

#include <nccl.h>

#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "tests/parallel/fake_cuda.h"
#include "tests/support/collectives.h"

namespace {

using namespace ringbolt::testing_support;
using ringbolt::test::Collective;
using ringbolt::test::concatenation;
using ringbolt::test::sums;

using Events = std::vector<std::shared_ptr<LazyEvent>>;

/// A send and its receive.
struct Meeting {
  const void* source = nullptr;
  size_t bytes = 0;
  std::shared_ptr<LazyEvent> sent = std::make_shared<LazyEvent>();
  std::shared_ptr<LazyEvent> copied = std::make_shared<LazyEvent>();
};

/// A collective of all ranks.
struct Gathering {
  explicit Gathering(size_t ranks) : inputs(ranks) {
    for (size_t r = 0; r < ranks; ++r) {
      arrived.push_back(std::make_shared<LazyEvent>());
      computed.push_back(std::make_shared<LazyEvent>());
    }
  }
  std::vector<const void*> inputs;
  Events arrived, computed;
};

/// Of one unique id; under the mutex.
struct Group {
  int ranks = 0;
  int joined = 0;
  bool aborted = false;
  std::map<std::tuple<int, int, int64_t>, std::shared_ptr<Meeting>> meetings;
  std::map<int64_t, std::shared_ptr<Gathering>> gatherings;

  std::shared_ptr<Meeting> meeting(int from, int to, int64_t number) {
    auto& found = meetings[{from, to, number}];
    if (found == nullptr) found = std::make_shared<Meeting>();
    return found;
  }
  std::shared_ptr<Gathering> gathering(int64_t number) {
    auto& found = gatherings[number];
    if (found == nullptr) found = std::make_shared<Gathering>(static_cast<size_t>(ranks));
    return found;
  }
};

std::mutex mutex;
std::map<int64_t, std::shared_ptr<Group>> groups;
int64_t next_id = 1;

}  // namespace

struct ncclComm {
  std::shared_ptr<Group> group;
  int rank = 0;
  std::map<int, int64_t> sends, receives;  ///< so far, by peer
  int64_t collectives = 0;
};

namespace {

struct Message {
  ncclComm_t comm;
  LazyStream* stream;
  const void* source;
  void* target;  ///< of a receive
  size_t bytes;
  int peer;
};

thread_local int depth = 0;
thread_local std::vector<Message> grouped;

size_t size_of_type(ncclDataType_t type) { return type == ncclFloat32 ? 4 : 1; }

void give(LazyStream& stream, std::function<void()> run) {
  fake_cuda_device()->give(stream, {.run = std::move(run), .until = nullptr});
}
void wait_in(LazyStream& stream, const std::shared_ptr<LazyEvent>& event) {
  fake_cuda_device()->wait_in(stream, mark_of(event));
}

/// All sends are offered before the first receive waits, and waited for after the last: in a group
/// nothing waits for its neighbour.
void launch(const std::vector<Message>& messages) {
  std::vector<std::pair<LazyStream*, std::shared_ptr<Meeting>>> offered;
  for (const Message& m : messages) {
    if (m.target != nullptr) continue;
    const auto meeting = m.comm->group->meeting(m.comm->rank, m.peer, m.comm->sends[m.peer]++);
    give(*m.stream, [meeting, m] {
      meeting->source = m.source;
      meeting->bytes = m.bytes;
      meeting->sent->done = true;
    });
    offered.emplace_back(m.stream, meeting);
  }
  for (const Message& m : messages) {
    if (m.target == nullptr) continue;
    const auto meeting = m.comm->group->meeting(m.peer, m.comm->rank, m.comm->receives[m.peer]++);
    wait_in(*m.stream, meeting->sent);
    give(*m.stream, [meeting, m] {
      if (meeting->source != nullptr && meeting->bytes == m.bytes && m.bytes > 0)
        std::memcpy(m.target, meeting->source, m.bytes);
      meeting->copied->done = true;
    });
  }
  for (const auto& [stream, meeting] : offered) wait_in(*stream, meeting->copied);
}

ncclResult_t post(const Message& message) {
  const std::lock_guard lock(mutex);
  if (message.comm->group->aborted) return ncclInvalidUsage;
  if (depth == 0) return ncclInvalidUsage;  // the project groups all it does
  grouped.push_back(message);
  return ncclSuccess;
}

ncclResult_t collect(ncclComm_t comm, cudaStream_t stream, const void* input, void* output,
                     size_t bytes, const Collective& compute) {
  const std::lock_guard lock(mutex);
  if (comm->group->aborted) return ncclInvalidUsage;
  LazyStream& lazy = *reinterpret_cast<LazyStream*>(stream);
  const auto gathering = comm->group->gathering(comm->collectives++);
  const auto me = static_cast<size_t>(comm->rank);
  const auto result = std::make_shared<std::vector<std::byte>>(bytes);
  give(lazy, [=] {
    gathering->inputs[me] = input;
    gathering->arrived[me]->done = true;
  });
  for (const auto& event : gathering->arrived) wait_in(lazy, event);
  give(lazy, [=] {
    bool whole = true;
    for (const void* one : gathering->inputs) whole = whole && one != nullptr;
    if (whole) compute(gathering->inputs, result->data());
    gathering->computed[me]->done = true;
  });
  for (const auto& event : gathering->computed) wait_in(lazy, event);
  give(lazy, [=] {
    if (bytes > 0) std::memcpy(output, result->data(), bytes);
  });
  return ncclSuccess;
}

}  // namespace

namespace ringbolt::testing_support {
FakeNccl& fake_nccl() {
  static FakeNccl fake;
  return fake;
}
}  // namespace ringbolt::testing_support

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = fake_nccl().version;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t) { return "an error of the stand-in"; }
const char* ncclGetLastError(ncclComm_t) { return ""; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const std::lock_guard lock(mutex);
  const int64_t number = next_id++;
  std::memcpy(id->internal, &number, sizeof(number));
  return static_cast<ncclResult_t>(fake_nccl().unique_id_result);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidUsage;
  if (rank == fake_nccl().refused_rank) return ncclUnhandledCudaError;
  const std::lock_guard lock(mutex);
  int64_t number = 0;
  std::memcpy(&number, id.internal, sizeof(number));
  auto& group = groups[number];
  if (group == nullptr) group = std::make_shared<Group>();
  group->ranks = ranks;
  ++group->joined;
  *comm = new ncclComm{.group = group, .rank = rank, .sends = {}, .receives = {}};
  ++fake_nccl().made;
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  const std::lock_guard lock(mutex);
  *state = ncclSuccess;
  if (comm->group->joined < comm->group->ranks) *state = ncclInProgress;
  if (comm->group->aborted || comm->rank == fake_nccl().failing_rank) *state = ncclRemoteError;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t) { return ncclInProgress; }
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  const std::lock_guard lock(mutex);
  ++fake_nccl().destroyed;
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const std::lock_guard lock(mutex);
  ++fake_nccl().aborted;
  comm->group->aborted = true;
  Events all;
  for (const auto& [key, meeting] : comm->group->meetings) {
    all.push_back(meeting->sent);
    all.push_back(meeting->copied);
  }
  for (const auto& [key, gathering] : comm->group->gatherings) {
    all.insert(all.end(), gathering->arrived.begin(), gathering->arrived.end());
    all.insert(all.end(), gathering->computed.begin(), gathering->computed.end());
  }
  fake_cuda_device()->finish(all);
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (--depth > 0) return ncclSuccess;
  const std::lock_guard lock(mutex);
  launch(grouped);
  grouped.clear();
  return ncclInProgress;
}

ncclResult_t ncclSend(const void* source, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return post({comm, reinterpret_cast<LazyStream*>(stream), source, nullptr,
               count * size_of_type(type), peer});
}
ncclResult_t ncclRecv(void* target, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  static std::byte nothing{};  // an empty message still is a receive
  return post({comm, reinterpret_cast<LazyStream*>(stream), nullptr,
               target == nullptr ? &nothing : target, count * size_of_type(type), peer});
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
