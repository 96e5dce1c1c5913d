#include "core/base/quantity.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>

#include "core/base/error.h"

namespace ringbolt {
namespace {

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

/// The whole of `text` as a number, or nothing. from_chars, so that no locale has a say; a leading
/// '+' is allowed.
std::optional<double> whole_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

[[noreturn]] void bad_count(std::string_view text, const std::string& why) {
  throw UsageError(
      message(concat("'", text, "' is not a count"), why,
              "Write a whole number such as 4096, 16K (= 16384), 1M (= 1048576) or 1e6."));
}

int64_t multiplier(std::string_view& digits) {
  if (digits.empty()) return 1;
  switch (digits.back()) {
    case 'k':
    case 'K':
      digits.remove_suffix(1);
      return int64_t{1} << 10;
    case 'm':
    case 'M':
      digits.remove_suffix(1);
      return int64_t{1} << 20;
    case 'g':
    case 'G':
      digits.remove_suffix(1);
      return int64_t{1} << 30;
    default:
      return 1;
  }
}

template <class... Values>
std::string printed(const char* format, Values... values) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

/// Three significant digits of a number in [0, 1000).
std::string three_digits(double value) {
  if (value >= 99.95) return printed("%.0f", value);
  return printed(value >= 9.995 ? "%.1f" : "%.2f", value);
}

}  // namespace

int64_t parse_count(std::string_view text) {
  const std::string_view whole = trimmed(text);
  std::string_view digits = whole;
  const int64_t unit = multiplier(digits);
  int64_t exact = 0;  // integers beyond 2^53 must not pass through a double
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), exact);
  if (error == std::errc() && end == digits.data() + digits.size()) {
    if (exact < 0) bad_count(text, "it is negative");
    if (exact > INT64_MAX / unit) bad_count(text, "it is above 2^63");
    return exact * unit;
  }
  const std::optional<double> value = whole_number(digits);
  if (!value) {
    const bool odd_suffix =
        whole.size() > 1 && whole_number(whole.substr(0, whole.size() - 1)).has_value();
    bad_count(text, odd_suffix ? concat("the suffix '", whole.back(), "' is none of K, M, G")
                               : "it is not a number");
  }
  const double product = *value * static_cast<double>(unit);
  if (product < 0) bad_count(text, "it is negative");
  if (product >= 0x1p63) bad_count(text, "it is above 2^63");
  if (product != std::floor(product)) bad_count(text, "it is not whole");
  return static_cast<int64_t>(product);
}

double parse_real(std::string_view text) {
  if (const std::optional<double> value = whole_number(trimmed(text))) return *value;
  throw UsageError(message(concat("'", text, "' is not a real number"),
                           "digits, a point and an exponent make one",
                           "Write 0.1, 500000 or 1e6; suffixes such as K are for counts."));
}

bool parse_flag(std::string_view text) {
  const std::string_view word = trimmed(text);
  for (const std::string_view yes : {"on", "true", "yes", "1"}) {
    if (word == yes) return true;
  }
  for (const std::string_view no : {"off", "false", "no", "0"}) {
    if (word == no) return false;
  }
  throw UsageError(message(concat("'", text, "' is neither on nor off"), "this is a switch",
                           "Write on or off."));
}

std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    const std::string_view part = trimmed(text.substr(begin, comma - begin));
    if (part.empty()) {
      throw UsageError(message(concat("the list '", text, "' has an empty part"),
                               "commas separate values", "Write it as 128,512,1K."));
    }
    parts.emplace_back(part);
    begin = comma + 1;
  }
  return parts;
}

std::string format_count(int64_t count) {
  const std::array<const char*, 4> suffixes{"", "K", "M", "G"};
  size_t power = 0;
  while (power + 1 < suffixes.size() && count != 0 && count % 1024 == 0) {
    count /= 1024;
    ++power;
  }
  return concat(count, suffixes[power]);
}

std::string format_grouped(int64_t count) {
  std::string text = std::to_string(count);
  const size_t first_digit = count < 0 ? 1 : 0;
  for (size_t at = text.size(); at > first_digit + 3;) text.insert(at -= 3, 1, ',');
  return text;
}

std::string format_bytes(int64_t bytes) {
  if (bytes < 1024) return concat(bytes, " B");
  const std::array<const char*, 5> units{"KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < units.size()) {
    value /= 1024;
    ++unit;
  }
  return concat(three_digits(value), " ", units[unit]);
}

std::string format_rate(double per_second) {
  if (!std::isfinite(per_second) || per_second < 0) return "?";
  const std::array<const char*, 5> suffixes{"", "k", "M", "G", "T"};
  size_t power = 0;
  while (per_second >= 999.5 && power + 1 < suffixes.size()) {
    per_second /= 1000;
    ++power;
  }
  return concat(three_digits(per_second), suffixes[power]);
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e12) return "?";
  if (seconds < 59.95) return printed(seconds < 9.995 ? "%.2f s" : "%.1f s", seconds);
  const int64_t whole = std::llround(seconds);
  const int64_t days = whole / 86400;
  const int64_t hours = whole / 3600 % 24;
  const int64_t minutes = whole / 60 % 60;
  const std::string rest =
      printed("%02lld:%02lld", static_cast<long long>(minutes), static_cast<long long>(whole % 60));
  if (days > 0) return concat(days, "d ", printed("%02lld:", static_cast<long long>(hours)), rest);
  if (hours > 0) return concat(hours, ":", rest);
  return rest.front() == '0' ? rest.substr(1) : rest;
}

std::string format_real(double value) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  std::array<char, 40> buffer{};
  const auto done = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  std::string text(buffer.data(), done.ptr);
  // to_chars writes 1e+06 and 1e-05; people write 1e6 and 1e-5.
  const size_t exponent = text.find('e');
  if (exponent == std::string::npos) return text;
  size_t digits = exponent + 1;
  const bool negative = text[digits] == '-';
  while (digits < text.size() - 1 &&
         (text[digits] == '+' || text[digits] == '-' || text[digits] == '0'))
    ++digits;
  return concat(text.substr(0, exponent + 1), negative ? "-" : "", text.substr(digits));
}

}  // namespace ringbolt
