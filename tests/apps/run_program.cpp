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
#include <regex>
#include <sstream>
#include <stdexcept>

namespace ringbolt::testing {
namespace {

void redirect(const std::string& path, int flags, int target) {
  const int file = open(path.c_str(), flags, 0600);
  if (file < 0 || dup2(file, target) < 0) _exit(126);
  close(file);
}

std::string new_folder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "ringbolt-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr)
    throw std::runtime_error(std::string("mkdtemp: ") + std::strerror(errno));
  return pattern;
}

}  // namespace

Program::Program(const std::vector<std::string>& arguments, const std::string& standard_input,
                 const Environment& environment, const std::string& standard_output)
    : folder_(new_folder()) {
  write_file(folder_ + "/in", standard_input);
  std::vector<std::string> words{RINGBOLT_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
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
  execv(pointers[0], pointers.data());
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

void expect_error(const Outcome& outcome, int status, const std::string& part) {
  EXPECT_EQ(outcome.status, status) << outcome.err;
  static const std::regex grammar("ringbolt( [a-z]+)?: [^\n]+ \\([^\n]+\\)\\. [^\n]+[.?]\n");
  EXPECT_TRUE(std::regex_match(outcome.err, grammar))
      << "not one line 'problem (why). What to try.':\n"
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
