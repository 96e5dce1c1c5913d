// The commands of the program, one file each. Each reads its options, composes the libraries and
// returns the exit status; errors are thrown and printed by main.
#pragma once

#include "apps/options.h"

namespace ringbolt {

int run_tokenize(const Arguments& arguments);
int run_train(const Arguments& arguments);
int run_evaluate(const Arguments& arguments);
int run_generate(const Arguments& arguments);
int run_plan(const Arguments& arguments);
int run_rope(const Arguments& arguments);
int run_bench(const Arguments& arguments);
int run_info(const Arguments& arguments);

}  // namespace ringbolt
