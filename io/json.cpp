#include "io/json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "core/base/error.h"
#include "io/atomic_file.h"

namespace ringbolt {
namespace {

using Library = nlohmann::ordered_json;

Json from_library(const Library& value) {
  switch (value.type()) {
    case Library::value_t::boolean:
      return value.get<bool>();
    case Library::value_t::number_integer:
      return value.get<int64_t>();
    case Library::value_t::number_unsigned: {
      const auto n = value.get<uint64_t>();
      if (n > uint64_t{INT64_MAX}) return static_cast<double>(n);
      return static_cast<int64_t>(n);
    }
    case Library::value_t::number_float:
      return value.get<double>();
    case Library::value_t::string:
      return value.get<std::string>();
    case Library::value_t::array: {
      Json::Array items;
      for (const Library& item : value) items.push_back(from_library(item));
      return items;
    }
    case Library::value_t::object: {
      Json object = Json::object();
      for (const auto& [key, item] : value.items()) object.set(key, from_library(item));
      return object;
    }
    default:
      return {};
  }
}

Library to_library(const Json& value) {
  if (value.is_bool()) return value.as_bool();
  if (value.is_text()) return value.as_text();
  if (value.is_array()) {
    Library array = Library::array();
    for (const Json& item : value.items()) array.push_back(to_library(item));
    return array;
  }
  if (value.is_object()) {
    Library object = Library::object();
    for (const auto& [key, item] : value.members()) object[key] = to_library(item);
    return object;
  }
  if (value.is_integer()) return value.as_integer();
  if (value.is_number()) return value.as_real();
  return nullptr;
}

/// "line 3, column 7" of byte `position` (counted from 1).
std::string place(std::string_view text, size_t position) {
  const std::string_view before =
      text.substr(0, std::min(text.size(), position > 0 ? position - 1 : 0));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t last = before.rfind('\n');
  const size_t column = before.size() - (last == std::string_view::npos ? 0 : last + 1) + 1;
  return concat("line ", line, ", column ", column);
}

/// nlohmann's text without its number, its own position and its name for this parser.
std::string reason(std::string text) {
  const size_t syntax = text.find("syntax error");
  if (syntax != std::string::npos) text.erase(0, syntax);
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

Json Json::object() {
  Json json;
  json.value_ = Object();
  return json;
}

Json Json::parse(std::string_view text, const std::string& origin) {
  try {
    return from_library(Library::parse(text));
  } catch (const Library::parse_error& error) {
    throw IoError(message(concat("cannot read ", origin, " as JSON"),
                          concat(place(text, error.byte), ": ", reason(error.what())),
                          "Correct the file there."));
  } catch (const Library::exception& error) {
    throw IoError(
        message(concat("cannot read ", origin, " as JSON"), error.what(), "Correct the file."));
  }
}

std::string Json::dump(int indent) const {
  // Invalid UTF-8 (a prompt of raw bytes) becomes U+FFFD instead of an exception.
  return to_library(*this).dump(indent, ' ', false, Library::error_handler_t::replace);
}

void Json::wrong_kind(const char* wanted) const {
  throw UsageError(message(concat("a JSON value is ", kind()), concat("it must be ", wanted),
                           "Correct the value."));
}

std::string Json::kind() const {
  constexpr const char* kKinds[] = {"null",   "true or false", "a whole number", "a number",
                                    "a text", "a list",        "an object"};
  return kKinds[value_.index()];
}

bool Json::as_bool() const {
  if (const bool* value = std::get_if<bool>(&value_)) return *value;
  wrong_kind("true or false");
}

int64_t Json::as_integer() const {
  if (const auto* value = std::get_if<int64_t>(&value_)) return *value;
  if (const auto* value = std::get_if<double>(&value_)) {
    if (std::floor(*value) == *value && std::abs(*value) <= 0x1p53)
      return static_cast<int64_t>(*value);
  }
  wrong_kind("a whole number");
}

double Json::as_real() const {
  if (const auto* value = std::get_if<double>(&value_)) return *value;
  if (const auto* value = std::get_if<int64_t>(&value_)) return static_cast<double>(*value);
  wrong_kind("a number");
}

const std::string& Json::as_text() const {
  if (const auto* value = std::get_if<std::string>(&value_)) return *value;
  wrong_kind("a text");
}

const Json::Array& Json::items() const {
  if (const auto* value = std::get_if<Array>(&value_)) return *value;
  wrong_kind("a list");
}

const Json::Object& Json::members() const {
  if (const auto* value = std::get_if<Object>(&value_)) return *value;
  wrong_kind("an object");
}

size_t Json::size() const {
  if (is_array()) return items().size();
  return is_object() ? members().size() : 0;
}

const Json* Json::find(std::string_view key) const {
  const auto* object = std::get_if<Object>(&value_);
  if (object == nullptr) return nullptr;
  const auto found =
      std::find_if(object->begin(), object->end(), [&](const auto& m) { return m.first == key; });
  return found == object->end() ? nullptr : &found->second;
}

const Json& Json::at(std::string_view key) const {
  if (const Json* value = find(key)) return *value;
  throw UsageError(message(concat("the JSON value '", key, "' is missing"),
                           concat("the value is ", kind()), "Add it."));
}

const Json& Json::at(size_t index) const {
  const Array& array = items();
  if (index < array.size()) return array[index];
  throw UsageError(message(concat("the JSON list has no item ", index),
                           concat("it has ", array.size()), "Check its length."));
}

Json& Json::set(std::string_view key, Json value) {
  if (is_null()) value_ = Object();
  if (!is_object()) wrong_kind("an object");
  auto& object = std::get<Object>(value_);
  for (auto& [name, present] : object) {
    if (name == key) {
      present = std::move(value);
      return *this;
    }
  }
  object.emplace_back(std::string(key), std::move(value));
  return *this;
}

Json& Json::push(Json value) {
  if (is_null()) value_ = Array();
  if (!is_array()) wrong_kind("a list");
  std::get<Array>(value_).push_back(std::move(value));
  return *this;
}

Json read_json_file(const std::string& path) { return Json::parse(read_whole_file(path), path); }

void write_json_file(const std::string& path, const Json& value) {
  write_file_atomically(path, value.dump(2) + "\n");
}

}  // namespace ringbolt
