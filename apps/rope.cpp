// ringbolt rope: the scaling laws (law), and what a rotary method does to the frequencies (table).
#include <iostream>

#include "apps/commands.h"
#include "apps/rope_law.h"
#include "apps/rope_table.h"
#include "core/base/error.h"

namespace ringbolt {

int run_rope(const Arguments& arguments) {
  const std::string word = arguments.empty() ? "--help" : arguments.front();
  const Arguments rest(arguments.begin() + (arguments.empty() ? 0 : 1), arguments.end());
  if (word == "law") return run_rope_law(rest);
  if (word == "table") return run_rope_table(rest);
  if (word == "--help" || word == "-h") {
    std::cout << "Usage: ringbolt rope law [options]     how far a model reaches, by the scaling "
                 "laws\n"
                 "       ringbolt rope table [options]   frequencies and periods of a rotary "
                 "method\n\n"
                 "Neither needs a checkpoint. ringbolt rope law --help shows the options, with "
                 "examples.\n";
    return 0;
  }
  throw UsageError(message(concat("unknown: rope ", word), "there are rope law and rope table",
                           "See ringbolt rope --help."));
}

}  // namespace ringbolt
