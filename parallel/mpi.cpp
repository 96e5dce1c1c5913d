#include "parallel/mpi.h"

#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "parallel/launch.h"
#include "parallel/pairwise.h"
#include "parallel/staged_exchange.h"
#include "parallel/transport.h"

namespace ringbolt {
namespace {

using Clock = std::chrono::steady_clock;

/// MPI's counts are int, and some transports are slow or wrong near 2^31.
constexpr size_t kPartBytes = size_t{1} << 30U;

std::string error_text(int code) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return std::string(text, static_cast<size_t>(length));
}

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  throw CommError(message(concat(call, " failed"), error_text(code),
                          "See what MPI itself printed, and whether all ranks still run."));
}

class MpiTransport final : public Transport {
 public:
  explicit MpiTransport(double timeout_seconds);
  ~MpiTransport() override = default;  // the communicator ends with MPI
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  Request post(const Exchange& exchange) override;
  [[noreturn]] void fail(const std::string& what) override {
    failure_ = what;
    throw CommError(what);
  }

 private:
  class Pending;
  int tag_of(const Exchange& exchange) const;

  MPI_Comm comm_ = MPI_COMM_NULL;  ///< ours alone: no message of another library is taken for ours
  int rank_ = 0;
  int size_ = 0;
  int64_t largest_tag_ = 0;
  std::string failure_;  ///< of the first wait that failed
  StagingArea staging_;  ///< of device memory
};

MpiTransport::MpiTransport(double timeout_seconds) {
  context().timeout_seconds = timeout_seconds;
  check(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
  check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  int* bound = nullptr;
  int found = 0;
  check(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &bound, &found), "MPI_Comm_get_attr");
  largest_tag_ = found != 0 ? *bound : 32767;
}

int MpiTransport::tag_of(const Exchange& exchange) const {
  constexpr auto kTags = static_cast<int64_t>(Tag::count_);
  const int64_t tag = exchange.channel * kTags + static_cast<int64_t>(exchange.tag);
  if (tag > largest_tag_) {
    throw CommError(message(concat("cannot make group ", exchange.channel, " of ranks"),
                            concat("this MPI has message tags up to ", largest_tag_),
                            "This is a defect of Ringbolt, or use another MPI."));
  }
  return static_cast<int>(tag);
}

class MpiTransport::Pending final : public Request::Pending {
 public:
  Pending(MpiTransport& transport, const Exchange& exchange);
  ~Pending() override;
  bool test() override;
  void wait() override;
  void abandon() noexcept override;

 private:
  struct Part {
    bool receives;
    int bytes;
  };
  template <class F>
  void cut(size_t bytes, bool receives, const F& start);
  bool is_done();
  [[noreturn]] void time_out();

  MpiTransport& transport_;
  Exchange exchange_;
  std::vector<MPI_Request> requests_;
  std::vector<Part> parts_;  ///< one a request
  bool done_ = false;
};

template <class F>
void MpiTransport::Pending::cut(size_t bytes, bool receives, const F& start) {
  size_t first = 0;
  do {
    const size_t n = std::min(kPartBytes, bytes - first);
    MPI_Request request = MPI_REQUEST_NULL;
    start(first, static_cast<int>(n), &request);
    requests_.push_back(request);
    parts_.push_back({receives, static_cast<int>(n)});
    first += n;
  } while (first < bytes);
}

MpiTransport::Pending::Pending(MpiTransport& transport, const Exchange& exchange)
    : transport_(transport), exchange_(exchange) {
  if (!transport.failure_.empty()) throw CommError(transport.failure_);
  const int tag = transport.tag_of(exchange);
  if (exchange.from >= 0) {
    cut(exchange.receive.size(), true, [&](size_t first, int n, MPI_Request* request) {
      check(MPI_Irecv(exchange.receive.data() + first, n, MPI_BYTE, exchange.from, tag,
                      transport.comm_, request),
            "MPI_Irecv");
    });
  }
  if (exchange.to >= 0) {
    cut(exchange.send.size(), false, [&](size_t first, int n, MPI_Request* request) {
      check(MPI_Isend(exchange.send.data() + first, n, MPI_BYTE, exchange.to, tag, transport.comm_,
                      request),
            "MPI_Isend");
    });
  }
}

MpiTransport::Pending::~Pending() {
  // Only after a failure: the process is about to end, and nothing may write where its memory was.
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    if (parts_[i].receives) MPI_Cancel(&requests_[i]);
    MPI_Request_free(&requests_[i]);
  }
}

bool MpiTransport::Pending::is_done() {
  if (done_) return true;
  std::vector<MPI_Status> statuses(requests_.size());
  int flag = 0;
  const int code =
      MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &flag, statuses.data());
  if (code == MPI_ERR_IN_STATUS) {
    for (const MPI_Status& status : statuses) {
      if (status.MPI_ERROR != MPI_SUCCESS && status.MPI_ERROR != MPI_ERR_PENDING)
        check(status.MPI_ERROR, ("MPI, in " + transport_.name_of(exchange_) + ",").c_str());
    }
  }
  check(code, "MPI_Testall");
  if (flag == 0) return false;
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (!parts_[i].receives) continue;
    int bytes = 0;
    check(MPI_Get_count(&statuses[i], MPI_BYTE, &bytes), "MPI_Get_count");
    if (bytes != parts_[i].bytes) {
      throw CommError(message(concat("rank ", exchange_.from, " sent ", bytes, " bytes and rank ",
                                     transport_.rank_, " expected ", parts_[i].bytes),
                              "both sides of a message must agree on its size",
                              "This is a defect of Ringbolt."));
    }
  }
  done_ = true;
  transport_.count(exchange_);
  return true;
}

bool MpiTransport::Pending::test() {
  if (!transport_.failure_.empty()) throw CommError(transport_.failure_);
  try {
    return is_done();
  } catch (const CommError& error) {
    transport_.failure_ = error.what();
    throw;
  }
}

void MpiTransport::Pending::time_out() {
  int peer = exchange_.from >= 0 ? exchange_.from : exchange_.to;
  // What has not come matters more than what has not left.
  bool receiving = false;
  for (size_t i = 0; i < parts_.size(); ++i)
    receiving = receiving || (parts_[i].receives && requests_[i] != MPI_REQUEST_NULL);
  if (!receiving && exchange_.to >= 0) peer = exchange_.to;
  transport_.fail(transport_.timeout_message(exchange_, peer));
}

void MpiTransport::Pending::wait() {
  if (test()) return;
  Traffic& traffic = transport_.context().traffic;
  const double limit = transport_.context().timeout_seconds;
  const Clock::time_point start = Clock::now();
  double waited = 0;
  // A short message is there within microseconds; then others may need this core; then it takes
  // longer.
  constexpr double kSpin = 5e-6;
  constexpr double kYield = 5e-3;
  constexpr std::chrono::microseconds kNap(50);
  while (!test()) {
    waited = std::chrono::duration<double>(Clock::now() - start).count();
    if (limit > 0 && waited > limit) time_out();
    if (waited > kYield) {
      std::this_thread::sleep_for(kNap);
    } else if (waited > kSpin) {
      sched_yield();
    }
  }
  traffic.waited_seconds += std::chrono::duration<double>(Clock::now() - start).count();
}

void MpiTransport::Pending::abandon() noexcept {
  // Other ranks learn of the error when the launcher ends them. Until then they may want these
  // bytes.
  constexpr auto kGrace = std::chrono::milliseconds(200);
  try {
    const Clock::time_point end = Clock::now() + kGrace;
    while (!is_done() && Clock::now() < end) sched_yield();
  } catch (const std::exception&) {
    static_cast<void>(0);  // an error is under way already
  }
  if (!done_ && transport_.failure_.empty())
    transport_.failure_ = "an exchange was left unfinished (an error ended it). See its message.";
}

Request MpiTransport::post(const Exchange& exchange) {
  if (exchange.device != nullptr)
    return Request(std::make_unique<StagedExchange>(*this, staging_, exchange));
  return Request(std::make_unique<Pending>(*this, exchange));
}

bool mpi_runs() {
  int initialised = 0;
  int finalised = 0;
  MPI_Initialized(&initialised);
  MPI_Finalized(&finalised);
  return initialised != 0 && finalised == 0;
}

}  // namespace

MpiSession::MpiSession(double timeout_seconds) {
  const std::optional<Launch>& launch = find_launch();
  int provided = 0;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_FUNNELED) {
    throw CommError(message("this MPI cannot be used", "it allows no threads beside its own",
                            "Use an MPI built with thread support."));
  }
  transport_ = std::make_unique<MpiTransport>(timeout_seconds);
  world_ = std::make_unique<PairwiseCommunicator>(*transport_);
  if (launch && launch->size > 0 && launch->size != world_->size()) {
    throw UsageError(message(
        concat("the launcher started ", launch->size, " ranks and MPI sees ", world_->size()),
        "they do not speak the same protocol",
        "Use the mpirun of this MPI, or srun --mpi=pmix (or pmi2)."));
  }
}

MpiSession::~MpiSession() {
  world_.reset();
  transport_.reset();
  if (finished_) MPI_Finalize();
}

void MpiSession::finish() {
  // MPI_Finalize would wait for ever for a rank that hangs.
  world_->barrier();
  finished_ = true;
}

void abort_mpi(int status) {
  if (mpi_runs()) MPI_Abort(MPI_COMM_WORLD, status);
  std::_Exit(status);
}

std::string mpi_library() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string all(text, static_cast<size_t>(length));
  return all.substr(0, all.find_first_of(",\n"));
}

}  // namespace ringbolt
