#include "apps/options.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <ostream>

#include <boost/program_options.hpp>

#include "apps/options_json.h"
#include "core/base/error.h"
#include "core/base/nearest.h"

namespace ringbolt {
namespace {

namespace po = boost::program_options;

constexpr const char* kVariablePrefix = "RINGBOLT_";

std::string option_of_variable(const std::string& variable) {
  std::string name = variable.substr(std::string(kVariablePrefix).size());
  for (char& c : name)
    c = c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return name;
}

std::string variable_of_option(const std::string& option) {
  std::string name = kVariablePrefix;
  for (const char c : option)
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

/// Everything is read as text here; the bound variables give it a type later.
po::options_description described(const std::deque<Option>& options) {
  po::options_description description;
  auto add = description.add_options();
  add("help", po::bool_switch());
  add("config", po::value<std::string>());
  for (const Option& option : options) {
    const char* name = option.name.c_str();
    if (option.takes_many) {
      add(name, po::value<std::vector<std::string>>()->multitoken());
    } else {
      add(name, po::value<std::string>());
    }
  }
  return description;
}

std::string joined(const std::vector<std::string>& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

/// A flag that stands alone means on. (An implicit value would swallow the next word.)
Arguments with_flags_on(const std::deque<Option>& options, Arguments arguments) {
  for (std::string& word : arguments) {
    const auto is_named = [&](const Option& o) {
      return o.kind == OptionKind::flag && word == "--" + o.name;
    };
    if (std::any_of(options.begin(), options.end(), is_named)) word += "=on";
  }
  return arguments;
}

std::vector<std::string> words_of(const po::variable_value& value) {
  if (const auto* many = boost::any_cast<std::vector<std::string>>(&value.value())) return *many;
  return {value.as<std::string>()};
}

po::parsed_options from_variables(const po::options_description& description) {
  const auto mapped = [&](const std::string& variable) -> std::string {
    if (!variable.starts_with(kVariablePrefix)) return "";
    const std::string name = option_of_variable(variable);
    const bool known = name != "help" && description.find_nothrow(name, false) != nullptr;
    return known ? name : "";
  };
  po::parsed_options parsed =
      po::parse_environment(description, boost::function1<std::string, std::string>(mapped));
  const auto is_unset = [](const po::option& option) {
    return option.value.empty() || option.value.front().empty();
  };
  parsed.options.erase(std::remove_if(parsed.options.begin(), parsed.options.end(), is_unset),
                       parsed.options.end());
  return parsed;
}

[[noreturn]] void bad_file(const std::string& file, const std::string& why) {
  throw UsageError(message(concat("cannot read the options in ", file), why,
                           "Write lines of 'name = value', or, in a file that ends in .json, an "
                           "object of names and values."));
}

po::parsed_options from_file(const std::string& file, const po::options_description& description) {
  if (file.ends_with(".json")) {
    po::parsed_options parsed(&description);
    for (const JsonOption& entry : read_json_options(file))
      parsed.options.emplace_back(entry.name, entry.words);
    return parsed;
  }
  std::ifstream in(file);
  if (!in) {
    throw IoError(message(concat("cannot open ", file),
                          "--config names it, and it is not there or not readable",
                          "Check the path."));
  }
  try {
    return po::parse_config_file(in, description, true);
  } catch (const po::error& error) {
    bad_file(file, error.what());
  }
}

UsageError no_value(const std::string& option, const std::string& command) {
  return UsageError(message(concat(option, " has no value"), "a value must follow it",
                            concat("See ringbolt ", command, " --help.")));
}

/// Boost's errors in our grammar.
[[noreturn]] void rethrow_syntax(const po::error& error, const std::string& command) {
  const std::string see = concat("See ringbolt ", command, " --help.");
  if (const auto* twice = dynamic_cast<const po::multiple_occurrences*>(&error)) {
    throw UsageError(message(concat(twice->get_option_name(), " is given twice"),
                             "it takes one value", "Give it once."));
  }
  if (const auto* syntax = dynamic_cast<const po::invalid_command_line_syntax*>(&error)) {
    std::string name = syntax->get_option_name();
    if (!name.starts_with("--")) name = "--" + name;
    throw no_value(name, command);
  }
  throw UsageError(message("the options cannot be read", error.what(), see));
}

}  // namespace

void OptionSet::unknown(const std::string& shown, const std::string& name,
                        const std::string& where) const {
  if (const auto found = absent_.find(name); found != absent_.end()) {
    const auto& [why, what_to_try] = found->second;
    throw UsageError(message(concat(shown, " is refused here"), why, what_to_try));
  }
  const std::string nearest = nearest_name(name, names());
  throw UsageError(message(concat("unknown option '", shown, "'"), where,
                           nearest.empty() ? concat("See ringbolt ", command_, " --help.")
                                           : concat("Did you mean --", nearest, "?")));
}

void OptionSet::read_sources(const Arguments& arguments) {
  const po::options_description description = described(options_);
  po::variables_map values;
  // What is stored first stays; a name that turns up after a store came from it.
  const auto store = [&](const po::parsed_options& parsed, OptionSource source,
                         const auto& origin) {
    po::store(parsed, values);
    for (Option& option : options_) {
      if (option.is_given() || values.count(option.name) == 0) continue;
      option.source = source;
      option.origin = origin(option.name);
    }
  };

  const std::string where = concat("ringbolt ", command_, " has none of that name");
  const auto flag_of = [](const std::string& name) { return "--" + name; };
  const int style = po::command_line_style::allow_long |
                    po::command_line_style::long_allow_adjacent |
                    po::command_line_style::long_allow_next;
  po::positional_options_description positions;
  if (!positional_.empty()) positions.add(positional_.c_str(), -1);
  try {
    po::command_line_parser parser(with_flags_on(options_, arguments));
    const po::parsed_options parsed =
        parser.options(description).positional(positions).style(style).run();
    for (const po::option& option : parsed.options) {
      for (const std::string& word : option.value) {
        const bool looks_like_option =
            option.position_key >= 0 && word.size() > 1 && word.front() == '-';
        if (looks_like_option) unknown(word, word.substr(word.find_first_not_of('-')), where);
        const bool names_another =
            word.starts_with("--") && description.find_nothrow(word.substr(2), false) != nullptr;
        if (names_another) throw no_value("--" + option.string_key, command_);
      }
    }
    store(parsed, OptionSource::command_line, flag_of);
  } catch (const po::unknown_option& error) {
    std::string shown = error.get_option_name();
    shown.resize(std::min(shown.find('='), shown.size()));
    unknown(shown, shown.substr(std::min(shown.find_first_not_of('-'), shown.size())), where);
  } catch (const po::too_many_positional_options_error&) {
    for (const std::string& word : arguments) {
      if (word.size() > 1 && word[0] == '-' && word[1] != '-') unknown(word, word.substr(1), where);
    }
    throw UsageError(message("there is a word without an option before it",
                             concat("ringbolt ", command_, " takes named options only"),
                             concat("See ringbolt ", command_, " --help.")));
  } catch (const po::error& error) {
    rethrow_syntax(error, command_);
  }

  const po::parsed_options variables = from_variables(description);
  if (values.count("config") != 0) config_file_ = values["config"].as<std::string>();
  for (const po::option& option : variables.options) {
    if (!config_file_ && option.string_key == "config") config_file_ = option.value.front();
  }
  if (config_file_) {
    po::parsed_options parsed = from_file(*config_file_, description);
    for (po::option& option : parsed.options) {
      const std::string& name = option.string_key;
      const bool known =
          name != "help" && name != "config" && description.find_nothrow(name, false) != nullptr;
      if (!known) unknown(name, name, concat("it stands in ", *config_file_, "; ", where));
      const Option& declared = find(name);
      if (declared.is_list && !declared.takes_many) option.value = {joined(option.value, ",")};
    }
    try {
      store(parsed, OptionSource::config_file,
            [&](const std::string& name) { return *config_file_ + ": " + name; });
    } catch (const po::error& error) {
      bad_file(*config_file_, error.what());
    }
  }
  store(variables, OptionSource::environment, variable_of_option);

  for (Option& option : options_) {
    if (option.is_given()) option.assign(option, words_of(values[option.name]));
  }
}

void OptionSet::check_together() const {
  const std::string see = concat("See ringbolt ", command_, " --help.");
  // A default that is merely repeated contradicts nothing, so that a stored set of options can be
  // read back.
  const auto stands_out = [&](const std::string& name) {
    const Option& option = find(name);
    if (!option.is_given()) return false;
    return option.kind == OptionKind::flag ? option.show() == std::vector<std::string>{"on"}
                                           : option.show() != option.default_values;
  };
  for (const Conflict& rule : conflicts_) {
    if (!stands_out(rule.a) || !stands_out(rule.b)) continue;
    throw UsageError(
        message(concat(find(rule.a).origin, " and ", find(rule.b).origin, " contradict each other"),
                rule.why, "Give one of them."));
  }
  for (const OneOf& rule : one_of_) {
    std::string any;
    std::vector<std::string> given;
    for (const std::string& name : rule.names) {
      any += (any.empty() ? "--" : " or --") + name;
      if (stands_out(name)) given.push_back(find(name).origin);
    }
    if (given.empty()) throw UsageError(message(concat(any, " is missing"), rule.why, see));
    if (given.size() == 1) continue;
    throw UsageError(message(concat(given[0], " and ", given[1], " contradict each other"),
                             rule.why, "Give one of them."));
  }
  for (const Option& option : options_) {
    if (!option.is_required || option.is_given()) continue;
    throw UsageError(message(concat("--", option.name, " is missing"),
                             concat("ringbolt ", command_, " cannot do without it"),
                             concat("Add --", option.name, " ", option.value_name, ".")));
  }
  for (const Conflict& rule : needs_) {
    if (!stands_out(rule.a) || find(rule.b).is_given()) continue;
    throw UsageError(message(concat(find(rule.a).origin, " needs --", rule.b), rule.why,
                             concat("Add --", rule.b, ".")));
  }
}

bool OptionSet::parse(const Arguments& arguments, std::ostream& out) {
  const auto asks_for_help = [](const std::string& word) {
    return word == "--help" || word == "-h";
  };
  if (std::any_of(arguments.begin(), arguments.end(), asks_for_help)) {
    out << help();
    return false;
  }
  for (Option& option : options_) option.default_values = option.show();
  read_sources(arguments);
  read_stored();
  check_together();
  return true;
}

}  // namespace ringbolt
