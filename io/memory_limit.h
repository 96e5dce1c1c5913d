// How much of its machine's memory a process may use.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace ringbolt {

/// Bytes of the machine.
int64_t machine_memory();

/// The least limit, in bytes, of the control groups that this process is in (version 1 or 2, and
/// those around them), as batch systems and containers set them. None where nothing limits it.
/// `root` holds proc and sys.
std::optional<int64_t> memory_limit(const std::string& root = "/");

/// The lesser of both.
int64_t usable_memory();

}  // namespace ringbolt
