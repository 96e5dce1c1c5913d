#include "apps/failure.h"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <new>
#include <optional>
#include <thread>

#include "core/base/error.h"
#include "parallel/launch.h"
#include "parallel/mpi.h"

namespace ringbolt {
namespace {

Failure classify(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const UsageError& e) {
    return {kUsage, e.what()};
  } catch (const IoError& e) {
    return {kFile, e.what()};
  } catch (const Error& e) {
    return {kOther, e.what()};
  } catch (const std::bad_alloc&) {
    return {kOther, message("out of memory", "an allocation on the host failed",
                            "Try a shorter context, a smaller batch, or a recompute policy that "
                            "saves less.")};
  } catch (const std::exception& e) {
    return {kInternal, concat("internal error: ", e.what())};
  } catch (...) {
    return {kInternal, "internal error: of unknown type"};
  }
}

/// How long a rank leaves the word to those before it. (Open MPI takes a second to end the others,
/// two where they handle SIGTERM.)
std::chrono::milliseconds patience(int rank) {
  return std::chrono::milliseconds(rank == 0 ? 0 : 2500 + 50 * std::min(rank, 20));
}

}  // namespace

Failure describe_failure(const std::exception_ptr& error) {
  Failure failure = classify(error);
  // On one line, whatever a library put into it.
  std::replace(failure.text.begin(), failure.text.end(), '\n', ' ');
  return failure;
}

int end_with_failure(const std::string& command, const Failure& failure) {
  const std::optional<Launch>& launch = find_launch();
  const int rank = launch ? launch->rank : 0;
  std::this_thread::sleep_for(patience(rank));
  std::cout.flush();
  // One write: ranks share the terminal.
  std::cerr << concat("ringbolt", command.empty() ? "" : " ", command, ": ",
                      rank == 0 ? "" : concat("rank ", rank, ": "), failure.text, '\n')
            << std::flush;
  if (launch) abort_mpi(failure.status);
  return failure.status;
}

}  // namespace ringbolt
