// Errors: one vocabulary, one grammar.
//
// Every message a user may read is "problem (why it is one). What to try." The type says whose
// fault it is; `main` catches once, prints once and ends all ranks. RINGBOLT_CHECK guards internal
// invariants and vanishes in release builds; user input is validated by code that throws always.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace ringbolt {

/// Any error that Ringbolt throws on purpose.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The command line, a configuration or the data asked for something impossible.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// A file is missing, damaged, foreign or cannot be written.
class IoError : public Error {
 public:
  using Error::Error;
};

/// A message between ranks failed.
class CommError : public Error {
 public:
  using Error::Error;
};

/// A device failed or is not there.
class DeviceError : public Error {
 public:
  using Error::Error;
};

/// The numbers went wrong (a loss that is not finite).
class NumericError : public Error {
 public:
  using Error::Error;
};

/// This build lacks the feature.
class NotBuilt : public Error {
 public:
  using Error::Error;
};

/// Everything streamed into one string: concat("token ", 7, " of ", 5).
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

/// "problem (why). What to try." from its three parts; the last ends with a full stop of its own.
inline std::string message(const std::string& problem, const std::string& why,
                           const std::string& what_to_try) {
  return concat(problem, " (", why, "). ", what_to_try);
}

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace ringbolt

#ifdef RINGBOLT_CHECKS
#define RINGBOLT_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::ringbolt::check_failed(#condition, __FILE__, __LINE__))
#else
#define RINGBOLT_CHECK(condition) static_cast<void>(0)
#endif
