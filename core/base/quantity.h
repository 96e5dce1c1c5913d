// Numbers as people write and read them: "16K" tokens, 3.2 GiB, 1:02:45 left.
//
// Counts and lengths are powers of two: K = 1024, M = 1024^2, G = 1024^3. Rates are decimal: k =
// 1000.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ringbolt {

/// "4096", "16K", "1.5M" (where that is a whole number), "1e6"; either case of the suffix, never
/// negative. Throws: UsageError "'16X' is not a count (why). What to try."
int64_t parse_count(std::string_view text);

/// Any finite real number: "1e6", "500000", "0.1". Throws: UsageError.
double parse_real(std::string_view text);

/// on, true, yes, 1 or off, false, no, 0. Throws: UsageError.
bool parse_flag(std::string_view text);

/// The parts between commas, spaces around them dropped. Throws: UsageError for an empty part
/// ("1,,2").
std::vector<std::string> split_list(std::string_view text);

/// Exact, and read back by parse_count: 16384 is "16K", 1048576 "1M", 1000 "1000".
std::string format_count(int64_t count);

/// Digits in groups of three: 1,570,540.
std::string format_grouped(int64_t count);

/// Three significant digits: "0", "512 B", "1.50 KiB", "3.25 GiB".
std::string format_bytes(int64_t bytes);

/// Three significant digits with a decimal suffix: 950 "950", 12345 "12.3k", 3.2e6 "3.20M".
std::string format_rate(double per_second);

/// "0.35 s", "12.4 s", "3:05", "1:02:45", "2d 01:02:45". Not finite or negative: "?".
std::string format_duration(double seconds);

/// The shortest text that reads back as the same number: 1e+06 is "1e6", 0.1 is "0.1".
std::string format_real(double value);

}  // namespace ringbolt
