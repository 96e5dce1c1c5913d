// Declaring options: how each type is read, shown and checked.
#include <algorithm>
#include <stdexcept>

#include "apps/options.h"
#include "core/base/error.h"
#include "core/base/quantity.h"

namespace ringbolt {
namespace {

using Words = std::vector<std::string>;

/// Puts the option's name before the message of a value that cannot be read.
template <class Parse>
auto read_as(const Option& option, const std::string& word, const Parse& parse) {
  try {
    return parse(word);
  } catch (const UsageError& error) {
    throw UsageError(concat(option.origin, ": ", error.what()));
  }
}

std::string shown_number(const Option& option, double value) {
  return option.kind == OptionKind::count ? format_count(static_cast<int64_t>(value))
                                          : format_real(value);
}

void check_range(const Option& option, double value) {
  std::string wanted;
  if (option.least && value < *option.least)
    wanted = "at least " + shown_number(option, *option.least);
  if (option.most && value > *option.most) wanted = "at most " + shown_number(option, *option.most);
  if (option.above && !(value > *option.above))
    wanted = "above " + shown_number(option, *option.above);
  if (wanted.empty()) return;
  throw UsageError(message(concat(option.origin, " cannot be ", shown_number(option, value)),
                           concat("it must be ", wanted), concat("Give ", wanted, ".")));
}

int64_t count_of(const Option& option, const std::string& word) {
  const int64_t count =
      read_as(option, word, [](const std::string& text) { return parse_count(text); });
  check_range(option, static_cast<double>(count));
  return count;
}

double real_of(const Option& option, const std::string& word) {
  const double real =
      read_as(option, word, [](const std::string& text) { return parse_real(text); });
  check_range(option, real);
  return real;
}

std::string joined(const Words& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

/// A word from words that arrived as several: the last rule of one value.
const std::string& only(const Words& words) { return words.front(); }

}  // namespace

OptionHandle& OptionHandle::required() {
  option_.is_required = true;
  return *this;
}
OptionHandle& OptionHandle::at_least(double bound) {
  option_.least = bound;
  return *this;
}
OptionHandle& OptionHandle::at_most(double bound) {
  option_.most = bound;
  return *this;
}
OptionHandle& OptionHandle::above(double bound) {
  option_.above = bound;
  return *this;
}
OptionHandle& OptionHandle::by_default(std::string note) {
  option_.default_note = std::move(note);
  return *this;
}

OptionSet::OptionSet(std::string command, std::string description)
    : command_(std::move(command)), description_(std::move(description)) {}

void OptionSet::group(std::string title) { group_ = std::move(title); }

Option& OptionSet::declare(const std::string& name, const std::string& value_name,
                           const std::string& help, OptionKind kind) {
  Option& option = options_.emplace_back();
  option.name = name;
  option.value_name = value_name;
  option.help = help;
  option.group = group_;
  option.kind = kind;
  return option;
}

OptionHandle OptionSet::add(const std::string& name, const std::string& value_name,
                            std::string& target, const std::string& help) {
  Option& option = declare(name, value_name, help, OptionKind::text);
  option.assign = [&target](const Option&, const Words& words) { target = only(words); };
  option.show = [&target] { return target.empty() ? Words{} : Words{target}; };
  return OptionHandle(option);
}

OptionHandle OptionSet::add(const std::string& name, const std::string& value_name,
                            std::optional<std::string>& target, const std::string& help) {
  Option& option = declare(name, value_name, help, OptionKind::text);
  option.assign = [&target](const Option&, const Words& words) { target = only(words); };
  option.show = [&target] { return target ? Words{*target} : Words{}; };
  return OptionHandle(option);
}

OptionHandle OptionSet::add(const std::string& name, const std::string& value_name, int64_t& target,
                            const std::string& help) {
  Option& option = declare(name, value_name, help, OptionKind::count);
  option.assign = [&target](const Option& self, const Words& words) {
    target = count_of(self, only(words));
  };
  option.show = [&target] { return Words{format_count(target)}; };
  return OptionHandle(option);
}

OptionHandle OptionSet::add(const std::string& name, const std::string& value_name,
                            std::optional<int64_t>& target, const std::string& help) {
  Option& option = declare(name, value_name, help, OptionKind::count);
  option.assign = [&target](const Option& self, const Words& words) {
    target = count_of(self, only(words));
  };
  option.show = [&target] { return target ? Words{format_count(*target)} : Words{}; };
  return OptionHandle(option);
}

OptionHandle OptionSet::add(const std::string& name, const std::string& value_name, double& target,
                            const std::string& help) {
  Option& option = declare(name, value_name, help, OptionKind::real);
  option.assign = [&target](const Option& self, const Words& words) {
    target = real_of(self, only(words));
  };
  option.show = [&target] { return Words{format_real(target)}; };
  return OptionHandle(option);
}

OptionHandle OptionSet::add(const std::string& name, const std::string& value_name,
                            std::optional<double>& target, const std::string& help) {
  Option& option = declare(name, value_name, help, OptionKind::real);
  option.assign = [&target](const Option& self, const Words& words) {
    target = real_of(self, only(words));
  };
  option.show = [&target] { return target ? Words{format_real(*target)} : Words{}; };
  return OptionHandle(option);
}

OptionHandle OptionSet::add(const std::string& name, const std::string& value_name,
                            std::vector<int64_t>& target, const std::string& help) {
  Option& option = declare(name, value_name, help, OptionKind::count);
  option.is_list = true;
  option.assign = [&target](const Option& self, const Words& words) {
    std::vector<int64_t> counts;
    for (const std::string& word : words) {
      const Words parts =
          read_as(self, word, [](const std::string& text) { return split_list(text); });
      for (const std::string& part : parts) counts.push_back(count_of(self, part));
    }
    target = counts;
  };
  option.show = [&target] {
    Words words;
    for (const int64_t count : target) words.push_back(format_count(count));
    return words;
  };
  return OptionHandle(option);
}

OptionHandle OptionSet::add(const std::string& name, const std::string& value_name,
                            std::vector<std::string>& target, const std::string& help) {
  Option& option = declare(name, value_name, help, OptionKind::text);
  option.is_list = true;
  option.takes_many = true;
  option.assign = [&target](const Option&, const Words& words) { target = words; };
  option.show = [&target] { return target; };
  return OptionHandle(option);
}

OptionHandle OptionSet::flag(const std::string& name, bool& target, const std::string& help) {
  Option& option = declare(name, "", help, OptionKind::flag);
  option.assign = [&target](const Option& self, const Words& words) {
    target = read_as(self, only(words), [](const std::string& text) { return parse_flag(text); });
  };
  option.show = [&target] { return Words{target ? "on" : "off"}; };
  return OptionHandle(option);
}

OptionHandle OptionSet::declare_choice(const std::string& name,
                                       const std::vector<std::string>& words,
                                       const std::string& help,
                                       const std::function<void(size_t)>& choose,
                                       const std::function<size_t()>& chosen) {
  Option& option = declare(name, joined(words, "|"), help, OptionKind::text);
  option.assign = [words, choose](const Option& self, const Words& given) {
    const auto found = std::find(words.begin(), words.end(), only(given));
    if (found == words.end()) {
      throw UsageError(message(concat(self.origin, " cannot be '", only(given), "'"),
                               concat("it is one of ", joined(words, ", ")),
                               "Choose one of these."));
    }
    choose(static_cast<size_t>(found - words.begin()));
  };
  option.show = [words, chosen] {
    const size_t i = chosen();
    return i < words.size() ? Words{words[i]} : Words{};
  };
  return OptionHandle(option);
}

void OptionSet::positional(const std::string& name) { positional_ = find(name).name; }

void OptionSet::conflicts(const std::string& a, const std::string& b, const std::string& why) {
  conflicts_.push_back({find(a).name, find(b).name, why});
}

void OptionSet::one_of(std::vector<std::string> names, const std::string& why) {
  for (const std::string& name : names) static_cast<void>(find(name));
  one_of_.push_back({std::move(names), why});
}

void OptionSet::absent(const std::string& name, const std::string& why,
                       const std::string& what_to_try) {
  absent_.emplace(name, std::pair(why, what_to_try));
}

void OptionSet::needs(const std::string& name, const std::string& needed, const std::string& why) {
  needs_.push_back({find(name).name, find(needed).name, why});
}

void OptionSet::fall_back_on(std::function<std::optional<std::string>()> file) {
  fallback_ = std::move(file);
}

void OptionSet::example(std::string line, std::string comment) {
  examples_.push_back({std::move(line), std::move(comment)});
}

Option& OptionSet::find(const std::string& name) {
  const auto found = std::find_if(options_.begin(), options_.end(),
                                  [&](const Option& o) { return o.name == name; });
  if (found == options_.end())
    throw std::logic_error(concat("the command declares no option --", name));
  return *found;
}

const Option& OptionSet::find(const std::string& name) const {
  return const_cast<OptionSet*>(this)->find(name);
}

bool OptionSet::is_given(const std::string& name) const { return find(name).is_given(); }
bool OptionSet::is_stored(const std::string& name) const {
  return find(name).source == OptionSource::stored;
}

std::vector<std::string> OptionSet::names() const {
  std::vector<std::string> all{"help", "config"};
  for (const Option& option : options_) all.push_back(option.name);
  return all;
}

}  // namespace ringbolt
