// The program: finds the command, runs it, and turns what it throws into one line and an exit
// status, on however many ranks.
#include <algorithm>
#include <array>
#include <exception>
#include <iostream>
#include <optional>
#include <streambuf>
#include <string>
#include <vector>

#include "apps/commands.h"
#include "apps/failure.h"
#include "core/base/build_info.h"
#include "core/base/error.h"
#include "core/base/nearest.h"
#include "parallel/launch.h"

namespace {

using ringbolt::Arguments;
using ringbolt::concat;
using ringbolt::message;

/// What a command does where a launcher (mpirun, srun) started several ranks.
enum class Ranks {
  one,    ///< refuses: each rank would do the whole work again
  first,  ///< only rank 0 does something
  all,    ///< by run_on_ranks (apps/ranks.h)
};

struct Command {
  const char* name;
  const char* summary;
  int (*run)(const Arguments&);
  Ranks ranks;
};

constexpr std::array kCommands{
    Command{"tokenize", "turn text files into a token file", ringbolt::run_tokenize, Ranks::one},
    Command{"train", "train a model, or fine-tune one at a context length and rotary base",
            ringbolt::run_train, Ranks::all},
    Command{"evaluate", "loss, perplexity and accuracy over context lengths",
            ringbolt::run_evaluate, Ranks::all},
    Command{"generate", "continue a prompt", ringbolt::run_generate, Ranks::one},
    Command{"plan", "show what a training run needs in memory", ringbolt::run_plan, Ranks::first},
    Command{"rope", "how far a rotary base reaches, and what a method does", ringbolt::run_rope,
            Ranks::one},
    Command{"bench", "measure this machine against its peak", ringbolt::run_bench, Ranks::all},
    Command{"info", "show the build, the devices, or what a file holds", ringbolt::run_info,
            Ranks::first},
};

/// Takes everything and shows nothing.
class NullBuffer final : public std::streambuf {
 protected:
  int overflow(int c) override { return traits_type::not_eof(c); }
  std::streamsize xsputn(const char*, std::streamsize n) override { return n; }
};

void print_help(std::ostream& out) {
  out << "Usage: ringbolt COMMAND [options]\n\n"
         "Fine-tunes and runs RoPE language models, and measures how far they "
         "reach.\n\nCommands:\n";
  for (const Command& command : kCommands) {
    const std::string name = command.name;
    out << "  " << name << std::string(12 - name.size(), ' ') << command.summary << '\n';
  }
  out << "\nringbolt COMMAND --help shows the options of one, with examples. ringbolt --version "
         "prints the version.\n"
         "Exit status: 0 done, 2 wrong options, 3 a file, 4 numbers, device or another rank, 1 a "
         "defect of Ringbolt.\n";
}

int run_here(const Command& command, const Arguments& arguments) {
  const std::optional<ringbolt::Launch>& launch = ringbolt::find_launch();
  const bool help = std::any_of(arguments.begin(), arguments.end(), [](const std::string& word) {
    return word == "--help" || word == "-h";
  });
  if (launch && command.ranks == Ranks::one && !help && (launch->size > 1 || launch->rank > 0)) {
    throw ringbolt::UsageError(message(
        "cannot run on several ranks",
        concat("each of them would do the whole of ", command.name, " again"),
        concat("Start ringbolt ", command.name, " without mpirun or srun, or with one rank.")));
  }
  if (launch && launch->rank > 0 && command.ranks == Ranks::first) return ringbolt::kOk;
  return command.run(arguments);
}

int run_command(const std::string& name, const Arguments& arguments) {
  for (const Command& command : kCommands) {
    if (name == command.name) return run_here(command, arguments);
  }
  const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    all.reserve(kCommands.size());
    for (const Command& command : kCommands) all.emplace_back(command.name);
    return all;
  }();
  const std::string nearest = ringbolt::nearest_name(name, names);
  throw ringbolt::UsageError(
      message(concat("unknown command '", name, "'"), "ringbolt has none of that name",
              nearest.empty() ? "See ringbolt --help." : concat("Did you mean ", nearest, "?")));
}

int run(const Arguments& words) {
  const std::string first = words.empty() ? "--help" : words.front();
  if (first == "--help" || first == "-h" || (first == "help" && words.size() == 1)) {
    print_help(words.empty() ? std::cerr : std::cout);
    return words.empty() ? ringbolt::kUsage : ringbolt::kOk;
  }
  if (first == "--version") {
    std::cout << "ringbolt " << ringbolt::build_info().version << '\n';
    return ringbolt::kOk;
  }
  if (first == "help") return run_command(words[1], {"--help"});
  return run_command(first, {words.begin() + 1, words.end()});
}

/// The command's name, for messages; empty where there is none.
std::string command_of(const Arguments& words) {
  const bool known = !words.empty() &&
                     std::any_of(kCommands.begin(), kCommands.end(), [&](const Command& command) {
                       return words.front() == command.name;
                     });
  return known ? words.front() : "";
}

int run_and_report(const Arguments& words) {
  // What all ranks would print is printed by rank 0.
  NullBuffer nothing;
  const std::optional<ringbolt::Launch>& launch = ringbolt::find_launch();
  std::streambuf* const standard = std::cout.rdbuf();
  if (launch && launch->rank > 0) std::cout.rdbuf(&nothing);
  int status = ringbolt::kInternal;
  try {
    status = run(words);
    std::cout.flush();
    if (!std::cout) {
      throw ringbolt::IoError(message("cannot write the result",
                                      "standard output is full or closed",
                                      "Check the disk, or where the output is piped to."));
    }
  } catch (...) {
    status = ringbolt::end_with_failure(command_of(words),
                                        ringbolt::describe_failure(std::current_exception()));
  }
  std::cout.rdbuf(standard);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  return run_and_report(Arguments(argv + std::min(argc, 1), argv + argc));
}
