// ringbolt rope table: frequencies, periods and attention factor of a rotary method, and of two
// side by side.
#pragma once

#include "apps/options.h"

namespace ringbolt {

int run_rope_table(const Arguments& arguments);

}  // namespace ringbolt
