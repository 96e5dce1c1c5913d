// How an error ends the program: one line, one exit status, all ranks.
#pragma once

#include <exception>
#include <string>

namespace ringbolt {

enum ExitStatus { kOk = 0, kInternal = 1, kUsage = 2, kFile = 3, kOther = 4 };

struct Failure {
  ExitStatus status;
  std::string text;  ///< one line
};

/// What to print of an error and how to exit, by its type.
Failure describe_failure(const std::exception_ptr& error);

/// Prints "ringbolt train: problem (why). What to try." and returns the exit status. Where a
/// launcher started several ranks it does not return, but ends them all: rank 0 at once, another
/// one only after a moment, with its number, so that an error which all ranks meet is printed once.
/// `command`: "train"; may be empty.
int end_with_failure(const std::string& command, const Failure& failure);

}  // namespace ringbolt
