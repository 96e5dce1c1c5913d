#include "apps/options_json.h"

#include <algorithm>
#include <optional>

#include "apps/options.h"
#include "core/base/error.h"
#include "core/base/quantity.h"
#include "io/json.h"

namespace ringbolt {
namespace {

std::string word_of(const std::string& file, const std::string& name, const Json& value) {
  if (value.is_text()) return value.as_text();
  if (value.is_bool()) return value.as_bool() ? "on" : "off";
  if (value.is_integer()) return std::to_string(value.as_integer());
  if (value.is_number()) return format_real(value.as_real());
  throw UsageError(message(concat(file, ": ", name, " cannot be ", value.dump()),
                           "an option is a number, a text, true or false, or a list of these",
                           "Write one of these."));
}

Json value_of(const Option& option, const std::string& word) {
  switch (option.kind) {
    case OptionKind::count:
      return parse_count(word);
    case OptionKind::real:
      return parse_real(word);
    case OptionKind::flag:
      return parse_flag(word);
    case OptionKind::text:
      break;
  }
  return word;
}

Json present_value(const Option& option) {
  const std::vector<std::string> words = option.show();
  if (!option.is_list) return value_of(option, words.front());
  Json list = Json::array();
  for (const std::string& word : words) list.push(value_of(option, word));
  return list;
}

}  // namespace

std::vector<JsonOption> read_json_options(const std::string& file) {
  const Json json = read_json_file(file);
  if (!json.is_object()) {
    throw UsageError(message(concat("cannot read the options in ", file), "it holds no JSON object",
                             "Write {\"steps\": 100, \"rope-base\": 1e6}."));
  }
  std::vector<JsonOption> options;
  for (const auto& [name, value] : json.members()) {
    JsonOption option{name, {}};
    if (value.is_array()) {
      for (const Json& item : value.items()) option.words.push_back(word_of(file, name, item));
    } else {
      option.words.push_back(word_of(file, name, value));
    }
    if (!option.words.empty()) options.push_back(option);
  }
  return options;
}

std::string OptionSet::resolved_json(const std::vector<std::string>& excluded) const {
  Json json = Json::object();
  for (const Option& option : options_) {
    const bool is_excluded =
        std::find(excluded.begin(), excluded.end(), option.name) != excluded.end();
    if (!is_excluded && !option.show().empty()) json.set(option.name, present_value(option));
  }
  return json.dump(2) + "\n";
}

void OptionSet::read_stored() {
  const std::optional<std::string> file = fallback_ ? fallback_() : std::nullopt;
  if (!file) return;
  for (const JsonOption& entry : read_json_options(*file)) {
    const auto is_entry = [&](const Option& option) { return option.name == entry.name; };
    const auto found = std::find_if(options_.begin(), options_.end(), is_entry);
    if (found == options_.end()) unknown(entry.name, entry.name, concat("it stands in ", *file));
    if (found->is_given()) continue;
    found->source = OptionSource::stored;
    found->origin = concat(*file, ": ", entry.name);
    found->assign(*found, entry.words);
  }
}

std::vector<std::string> OptionSet::changed_since(const std::string& stored_file,
                                                  const std::vector<std::string>& names) const {
  const Json stored = read_json_file(stored_file);
  std::vector<std::string> changed;
  for (const std::string& name : names) {
    const Option& option = find(name);
    const Json* before = stored.find(name);
    // An option that the stored set does not know had its default then.
    const bool is_same = before == nullptr
                             ? option.show() == option.default_values
                             : !option.show().empty() && *before == present_value(option);
    if (!is_same) changed.push_back(name);
  }
  return changed;
}

}  // namespace ringbolt
