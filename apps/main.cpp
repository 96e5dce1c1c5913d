// The program: finds the command, runs it, and turns what it throws into one line and an exit
// status.
#include <algorithm>
#include <array>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include "apps/commands.h"
#include "core/base/build_info.h"
#include "core/base/error.h"
#include "core/base/nearest.h"

namespace {

using ringbolt::Arguments;
using ringbolt::concat;
using ringbolt::message;

struct Command {
  const char* name;
  const char* summary;
  int (*run)(const Arguments&);
};

constexpr std::array kCommands{
    Command{"tokenize", "turn text files into a token file", ringbolt::run_tokenize},
    Command{"train", "train a model, or fine-tune one at a context length and rotary base",
            ringbolt::run_train},
    Command{"evaluate", "loss, perplexity and accuracy over context lengths",
            ringbolt::run_evaluate},
    Command{"generate", "continue a prompt", ringbolt::run_generate},
    Command{"bench", "measure this machine against its peak", ringbolt::run_bench},
    Command{"info", "show the build, the devices, or what a file holds", ringbolt::run_info},
};

enum ExitStatus { kOk = 0, kInternal = 1, kUsage = 2, kFile = 3, kOther = 4 };

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
         "Exit status: 0 done, 2 wrong options, 3 a file, 4 numbers or device, 1 a defect of "
         "Ringbolt.\n";
}

int run_command(const std::string& name, const Arguments& arguments) {
  for (const Command& command : kCommands) {
    if (name == command.name) return command.run(arguments);
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
    return words.empty() ? kUsage : kOk;
  }
  if (first == "--version") {
    std::cout << "ringbolt " << ringbolt::build_info().version << '\n';
    return kOk;
  }
  if (first == "help") return run_command(words[1], {"--help"});
  return run_command(first, {words.begin() + 1, words.end()});
}

/// The message on one line, whatever a library put into it.
void print_error(const Arguments& words, std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  const bool has_command = std::any_of(
      kCommands.begin(), kCommands.end(),
      [&](const Command& command) { return !words.empty() && words.front() == command.name; });
  std::cerr << "ringbolt" << (has_command ? " " + words.front() : "") << ": " << text << std::endl;
}

int run_and_report(const Arguments& words) {
  try {
    const int status = run(words);
    std::cout.flush();
    if (!std::cout) {
      throw ringbolt::IoError(message("cannot write the result",
                                      "standard output is full or closed",
                                      "Check the disk, or where the output is piped to."));
    }
    return status;
  } catch (const ringbolt::UsageError& error) {
    print_error(words, error.what());
    return kUsage;
  } catch (const ringbolt::IoError& error) {
    print_error(words, error.what());
    return kFile;
  } catch (const ringbolt::Error& error) {
    print_error(words, error.what());
    return kOther;
  } catch (const std::bad_alloc&) {
    print_error(
        words,
        message("out of memory", "an allocation on the host failed",
                "Try a shorter context, a smaller batch, or a recompute policy that saves less."));
    return kOther;
  } catch (const std::exception& error) {
    print_error(words, concat("internal error: ", error.what()));
    return kInternal;
  }
}

}  // namespace

int main(int argc, char** argv) {
  return run_and_report(Arguments(argv + std::min(argc, 1), argv + argc));
}
