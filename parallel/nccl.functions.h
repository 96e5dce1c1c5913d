// NCCL's functions, found when first asked for: a program that uses no NCCL starts without it.
//
// What the process has already (linked, preloaded) comes first, then libnccl.so.2.
#pragma once

#include <nccl.h>

#include <string>

namespace ringbolt {

struct NcclLibrary {
  decltype(&ncclGetVersion) GetVersion;
  decltype(&ncclGetUniqueId) GetUniqueId;
  decltype(&ncclGetErrorString) GetErrorString;
  decltype(&ncclGetLastError) GetLastError;
  decltype(&ncclCommInitRankConfig) CommInitRankConfig;
  decltype(&ncclCommGetAsyncError) CommGetAsyncError;
  decltype(&ncclCommFinalize) CommFinalize;
  decltype(&ncclCommDestroy) CommDestroy;
  decltype(&ncclCommAbort) CommAbort;
  decltype(&ncclGroupStart) GroupStart;
  decltype(&ncclGroupEnd) GroupEnd;
  decltype(&ncclSend) Send;
  decltype(&ncclRecv) Recv;
  decltype(&ncclAllReduce) AllReduce;
  decltype(&ncclAllGather) AllGather;
  decltype(&ncclReduceScatter) ReduceScatter;
};

/// Throws: CommError where it is not found, lacks a function, or is older than what is needed.
const NcclLibrary& nccl();

/// Why nccl() throws, or "".
const std::string& why_no_nccl();

/// "NCCL 2.28.9".
std::string nccl_version_text(int version);

inline bool is_good(ncclResult_t result) {
  return result == ncclSuccess || result == ncclInProgress;
}

}  // namespace ringbolt
