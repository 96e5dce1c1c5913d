#include "apps/options_json.h"

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
                           "an option is a number, a text, true or false, or a list of these", "Write one of these."));
}

Json value_of(const Option& option, const std::string& word) {
  switch (option.kind) {
    case OptionKind::count: return parse_count(word);
    case OptionKind::real: return parse_real(word);
    case OptionKind::flag: return parse_flag(word);
    case OptionKind::text: break;
  }
  return word;
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

std::string OptionSet::resolved_json() const {
  Json json = Json::object();
  for (const Option& option : options_) {
    const std::vector<std::string> words = option.show();
    if (words.empty()) continue;
    if (!option.is_list) {
      json.set(option.name, value_of(option, words.front()));
      continue;
    }
    Json list = Json::array();
    for (const std::string& word : words) list.push(value_of(option, word));
    json.set(option.name, std::move(list));
  }
  return json.dump(2) + "\n";
}

}  // namespace ringbolt
