// What --help prints.
#include <algorithm>
#include <sstream>

#include "apps/options.h"

namespace ringbolt {
namespace {

constexpr size_t kLineWidth = 100;
constexpr size_t kHelpColumn = 34;

/// Words of `text` broken into lines that start at `indent`; the first one goes on from `column`.
void wrap(std::ostream& out, const std::string& text, size_t column, size_t indent) {
  std::istringstream words(text);
  bool line_start = true;
  for (std::string word; words >> word;) {
    if (!line_start && column + 1 + word.size() > kLineWidth) {
      out << '\n' << std::string(indent, ' ');
      column = indent;
      line_start = true;
    }
    out << (line_start ? "" : " ") << word;
    column += word.size() + (line_start ? 0 : 1);
    line_start = false;
  }
  out << '\n';
}

std::string left_column(const Option& option) {
  if (option.kind == OptionKind::flag) return "  --" + option.name;
  return "  --" + option.name + " " + option.value_name + (option.takes_many ? " ..." : "");
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ",") + word;
  return text;
}

std::string right_column(const Option& option) {
  std::string text = option.help;
  if (option.is_required) return text + " [required]";
  if (!option.default_note.empty()) return text + " [default: " + option.default_note + "]";
  const std::vector<std::string> values = option.is_given() ? option.default_values : option.show();
  return values.empty() ? text : text + " [default: " + joined(values) + "]";
}

void print_option(std::ostream& out, const std::string& left, const std::string& right) {
  out << left;
  if (left.size() + 2 > kHelpColumn) {
    out << '\n' << std::string(kHelpColumn, ' ');
  } else {
    out << std::string(kHelpColumn - left.size(), ' ');
  }
  wrap(out, right, kHelpColumn, kHelpColumn);
}

}  // namespace

std::string OptionSet::help() const {
  std::ostringstream out;
  out << "Usage: ringbolt " << command_;
  for (const Option& option : options_) {
    if (option.is_required) out << left_column(option).substr(1);
  }
  for (const OneOf& rule : one_of_) {
    std::string any;
    for (const std::string& name : rule.names)
      any += (any.empty() ? "" : " | ") + left_column(find(name)).substr(2);
    out << " {" << any << "}";
  }
  out << " [options]";
  if (!positional_.empty()) out << " [" << find(positional_).value_name << " ...]";
  out << "\n\n";
  wrap(out, description_, 0, 0);

  std::vector<std::string> groups;
  for (const Option& option : options_) {
    if (std::find(groups.begin(), groups.end(), option.group) == groups.end())
      groups.push_back(option.group);
  }
  for (const std::string& title : groups) {
    out << '\n' << title << ":\n";
    for (const Option& option : options_) {
      if (option.group == title) print_option(out, left_column(option), right_column(option));
    }
  }
  out << "\nEverywhere:\n";
  print_option(
      out, "  --config FILE",
      "Options from a file: 'name = value' lines, or a JSON object where the name ends in .json. "
      "The command "
      "line has precedence over the file, and the file over variables such as RINGBOLT_ROPE_BASE.");
  print_option(out, "  --help", "Prints this.");
  if (!examples_.empty()) out << "\nExamples:\n";
  for (const Example& example : examples_) {
    if (!example.comment.empty()) out << "  # " << example.comment << '\n';
    out << "  ringbolt " << example.line << '\n';
  }
  return out.str();
}

}  // namespace ringbolt
