// Runs the built `ringbolt` as a user does: a process of its own, its two outputs and its exit
// status.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace ringbolt::testing {

struct Outcome {
  int status = -1;  ///< exit status, or 128 + the signal that ended it
  std::string out;
  std::string err;
};

/// Extra environment: {"RINGBOLT_STEPS", "3"}.
using Environment = std::vector<std::pair<std::string, std::string>>;

/// A whole command line: the program, then its arguments.
struct CommandLine {
  std::vector<std::string> words;
};

/// A running program. Progress is off unless the environment says otherwise.
class Program {
 public:
  explicit Program(const CommandLine& command_line, const std::string& standard_input = "",
                   const Environment& environment = {}, const std::string& standard_output = "");
  /// `ringbolt` with these arguments.
  /// `standard_output` names a file or device that takes it; empty keeps it for wait().
  explicit Program(const std::vector<std::string>& arguments,
                   const std::string& standard_input = "", const Environment& environment = {},
                   const std::string& standard_output = "");
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void send(int signal);
  Outcome wait();

 private:
  std::string folder_;
  pid_t pid_ = -1;
};

Outcome run_ringbolt(const std::vector<std::string>& arguments,
                     const std::string& standard_input = "", const Environment& environment = {},
                     const std::string& standard_output = "");

/// Starts a program on so many ranks of mpirun.
Program start_on_mpi(int ranks, const std::vector<std::string>& program_and_arguments);
/// And waits for its end.
Outcome run_on_mpi(int ranks, const std::vector<std::string>& program_and_arguments);

/// Whether this machine has the mpirun that the build uses.
bool has_mpi();

/// The lines of an error output that `ringbolt` wrote: mpirun adds some of its own.
std::string own_lines(const std::string& err);

/// Expects the exit status and exactly one line "ringbolt …: problem (why). What to try." that
/// contains `part`.
void expect_error(const Outcome& outcome, int status, const std::string& part);

/// A folder that is removed with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

void write_file(const std::string& path, const std::string& contents);
std::string read_file(const std::string& path);

}  // namespace ringbolt::testing
