#include "tests/apps/run_program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string_view>

namespace ringbolt::testing {
namespace {

void redirect(const std::string& path, int flags, int target) {
  const int file = open(path.c_str(), flags, 0600);
  if (file < 0 || dup2(file, target) < 0) _exit(126);
  close(file);
}

/// "ringbolt train: problem (why). What to try." and a line feed, the only one.
bool is_one_message(std::string_view text) {
  if (!text.starts_with("ringbolt") || text.find('\n') != text.size() - 1) return false;
  text.remove_suffix(1);
  const size_t problem = text.find(": ");
  if (problem == std::string_view::npos) return false;
  const size_t why = text.find(" (", problem + 3);
  const size_t remedy = why == std::string_view::npos ? why : text.find("). ", why + 3);
  const bool is_whole = remedy != std::string_view::npos && remedy + 4 < text.size();
  return is_whole && (text.ends_with('.') || text.ends_with('?'));
}

std::string new_folder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "ringbolt-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr)
    throw std::runtime_error(std::string("mkdtemp: ") + std::strerror(errno));
  return pattern;
}

CommandLine ringbolt_with(const std::vector<std::string>& arguments) {
  CommandLine line{{RINGBOLT_PROGRAM}};
  line.words.insert(line.words.end(), arguments.begin(), arguments.end());
  return line;
}

}  // namespace

Program::Program(const std::vector<std::string>& arguments, const std::string& standard_input,
                 const Environment& environment, const std::string& standard_output)
    : Program(ringbolt_with(arguments), standard_input, environment, standard_output) {}

Program::Program(const CommandLine& command_line, const std::string& standard_input,
                 const Environment& environment, const std::string& standard_output)
    : folder_(new_folder()) {
  write_file(folder_ + "/in", standard_input);
  std::vector<std::string> words = command_line.words;
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);

  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
  if (pid_ != 0) return;
  redirect(folder_ + "/in", O_RDONLY, STDIN_FILENO);
  redirect(standard_output.empty() ? folder_ + "/out" : standard_output, O_WRONLY | O_CREAT,
           STDOUT_FILENO);
  redirect(folder_ + "/err", O_WRONLY | O_CREAT, STDERR_FILENO);
  setenv("RINGBOLT_PROGRESS", "none", 1);
  setenv("OMP_NUM_THREADS", "1", 1);  // the models are too small to share
  for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
  execvp(pointers[0], pointers.data());
  _exit(127);
}

Program::~Program() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void Program::send(int signal) { kill(pid_, signal); }

Outcome Program::wait() {
  int state = 0;
  while (waitpid(pid_, &state, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  Outcome outcome;
  outcome.status = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
  outcome.out = read_file(folder_ + "/out");
  outcome.err = read_file(folder_ + "/err");
  return outcome;
}

Outcome run_ringbolt(const std::vector<std::string>& arguments, const std::string& standard_input,
                     const Environment& environment, const std::string& standard_output) {
  return Program(arguments, standard_input, environment, standard_output).wait();
}

Program start_on_mpi(int ranks, const std::vector<std::string>& program_and_arguments) {
  CommandLine line{{RINGBOLT_MPIRUN, RINGBOLT_MPIRUN_RANKS, std::to_string(ranks)}};
  line.words.insert(line.words.end(), program_and_arguments.begin(), program_and_arguments.end());
  // Containers run as root, with fewer cores than ranks; Open MPI leaks.
  const Environment environment{{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                                {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                                {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
                                {"OMPI_MCA_mpi_yield_when_idle", "1"},
                                {"ASAN_OPTIONS", "detect_leaks=0"}};
  return Program(line, "", environment);
}

Outcome run_on_mpi(int ranks, const std::vector<std::string>& program_and_arguments) {
  return start_on_mpi(ranks, program_and_arguments).wait();
}

bool has_mpi() { return *RINGBOLT_MPIRUN != '\0'; }

std::string own_lines(const std::string& err) {
  std::istringstream lines(err);
  std::string line, own;
  while (std::getline(lines, line)) {
    if (line.starts_with("ringbolt")) own += line + '\n';
  }
  return own;
}

void expect_error(const Outcome& outcome, int status, const std::string& part) {
  EXPECT_EQ(outcome.status, status) << outcome.err;
  EXPECT_TRUE(is_one_message(outcome.err)) << "not one line 'problem (why). What to try.':\n"
                                           << outcome.err;
  EXPECT_NE(outcome.err.find(part), std::string::npos) << "no '" << part << "' in\n" << outcome.err;
}

TemporaryFolder::TemporaryFolder() : path_(new_folder()) {}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void write_file(const std::string& path, const std::string& contents) {
  std::ofstream out(path, std::ios::binary);
  out << contents;
  out.close();
  if (!out) throw std::runtime_error("cannot write " + path);
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace ringbolt::testing
