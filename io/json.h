// JSON values: configurations, results and metrics.
//
// A small value type of our own; the parser and the number formats are nlohmann-json's, behind
// io/json.cpp. Objects keep the order in which keys were added. Numbers that are not finite are
// written as null, as JSON has no other way.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace ringbolt {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  Json() = default;  ///< null
  Json(bool value) : value_(value) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) Json(T value) : value_(static_cast<int64_t>(value)) {}
  template <std::floating_point T>
  Json(T value) : value_(static_cast<double>(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(Array values) : value_(std::move(values)) {}
  static Json array() { return Json(Array()); }
  static Json object();

  /// Throws: IoError "cannot read <origin> as JSON (line 3, column 7: …)".
  static Json parse(std::string_view text, const std::string& origin);
  /// One line, or indented by `indent` spaces a level.
  std::string dump(int indent = -1) const;

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_text() const { return std::holds_alternative<std::string>(value_); }
  bool is_integer() const { return std::holds_alternative<int64_t>(value_); }
  bool is_number() const { return is_integer() || std::holds_alternative<double>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }

  // Throws: UsageError saying what the value is instead. A whole number reads as a real one,
  // and 3.0 as an integer.
  bool as_bool() const;
  int64_t as_integer() const;
  double as_real() const;
  const std::string& as_text() const;
  const Array& items() const;
  const Object& members() const;

  /// Of an array or object; 0 for the rest.
  size_t size() const;
  /// The member `key` of an object, or nullptr.
  const Json* find(std::string_view key) const;
  /// Throws: UsageError where it is missing.
  const Json& at(std::string_view key) const;
  const Json& at(size_t index) const;
  /// Sets or replaces a member; null becomes an object first. Returns *this, so that calls can be
  /// chained.
  Json& set(std::string_view key, Json value);
  /// Adds to an array; null becomes one first.
  Json& push(Json value);

  friend bool operator==(const Json&, const Json&) = default;

 private:
  std::string kind() const;
  [[noreturn]] void wrong_kind(const char* wanted) const;

  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

/// Throws: IoError naming the file, and the line and column of a mistake.
Json read_json_file(const std::string& path);
/// Atomically, indented, with a newline at the end.
void write_json_file(const std::string& path, const Json& value);

}  // namespace ringbolt
