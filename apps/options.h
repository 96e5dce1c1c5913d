// The options of one command: declared once, read from the command line, a --config file and
// RINGBOLT_* variables.
//
// A declaration binds a name to a variable that already holds the default:
//
//     OptionSet options("train", "Trains a model.");
//     options.group("Training");
//     options.add("steps", "N", settings.steps, "Optimizer steps").required().at_least(1);
//     if (!options.parse(arguments, std::cout)) return 0;   // --help was asked for and printed
//
// Precedence: command line, then the file, then RINGBOLT_STEPS and the like, then the default.
// Every error is a UsageError of one line that names the option and where its value came from. The
// only door to Boost.Program_options.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <iosfwd>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ringbolt {

using Arguments = std::vector<std::string>;

enum class OptionSource { default_value, stored, environment, config_file, command_line };
enum class OptionKind { text, count, real, flag };

/// One declared option. Commands see it through OptionHandle only.
struct Option {
  std::string name;
  std::string value_name;  ///< "N", "FILE"; empty for flags
  std::string help;
  std::string group;
  OptionKind kind = OptionKind::text;
  bool is_list = false;     ///< counts and reals are listed with commas
  bool takes_many = false;  ///< several words or several occurrences (paths)
  bool is_required = false;
  std::string default_note;     ///< what --help says of a default that is decided later
  std::optional<double> least;  ///< inclusive bounds of every number in it
  std::optional<double> most;
  std::optional<double> above;  ///< exclusive bound
  OptionSource source = OptionSource::default_value;
  std::string origin;  ///< how errors call it: "--steps", "RINGBOLT_STEPS", "run.ini: steps"
  std::vector<std::string> default_values;
  std::function<void(const Option&, const std::vector<std::string>&)> assign;
  std::function<std::vector<std::string>()> show;  ///< the present value, as assign would read it

  bool is_given() const { return source != OptionSource::default_value; }
};

/// Refines the option that was just declared.
class OptionHandle {
 public:
  explicit OptionHandle(Option& option) : option_(option) {}
  OptionHandle& required();
  OptionHandle& at_least(double bound);
  OptionHandle& at_most(double bound);
  OptionHandle& above(double bound);
  /// Shown by --help where the default depends on something else: "that of the checkpoint".
  OptionHandle& by_default(std::string note);

 private:
  Option& option_;
};

class OptionSet {
 public:
  OptionSet(std::string command, std::string description);

  /// Options declared from here on stand under this title in --help.
  void group(std::string title);

  OptionHandle add(const std::string& name, const std::string& value_name, std::string& target,
                   const std::string& help);
  OptionHandle add(const std::string& name, const std::string& value_name,
                   std::optional<std::string>& target, const std::string& help);
  /// Counts: 4096, 16K, 1M. Not negative.
  OptionHandle add(const std::string& name, const std::string& value_name, int64_t& target,
                   const std::string& help);
  OptionHandle add(const std::string& name, const std::string& value_name,
                   std::optional<int64_t>& target, const std::string& help);
  OptionHandle add(const std::string& name, const std::string& value_name, double& target,
                   const std::string& help);
  OptionHandle add(const std::string& name, const std::string& value_name,
                   std::optional<double>& target, const std::string& help);
  /// Counts between commas: 128,512,1K.
  OptionHandle add(const std::string& name, const std::string& value_name,
                   std::vector<int64_t>& target, const std::string& help);
  /// Several words, or the option several times.
  OptionHandle add(const std::string& name, const std::string& value_name,
                   std::vector<std::string>& target, const std::string& help);
  /// --name, --name=off; "name = on" in a file.
  OptionHandle flag(const std::string& name, bool& target, const std::string& help);
  /// One of the given words; errors list them.
  template <class E>
  OptionHandle choice(const std::string& name, E& target,
                      std::vector<std::pair<std::string, E>> choices, const std::string& help);

  /// Words without an option's name go to this list option.
  void positional(const std::string& name);
  /// At most one of the two may be given, because …
  void conflicts(const std::string& a, const std::string& b, const std::string& why);
  /// Exactly one of these must be given.
  void one_of(std::vector<std::string> names, const std::string& why);
  /// `name` is only given together with `needed`, because …
  void needs(const std::string& name, const std::string& needed, const std::string& why);
  /// An option of other commands that this one refuses, because …
  void absent(const std::string& name, const std::string& why, const std::string& what_to_try);
  /// A stored set of options (resolved_json) that fills what no source gave. `file` is asked when
  /// the others are read.
  void fall_back_on(std::function<std::optional<std::string>()> file);
  /// A line of the Examples section of --help, without the leading "ringbolt".
  void example(std::string line, std::string comment = "");

  /// Reads all sources into the bound variables. False where --help was asked for; then `out` has
  /// it and nothing was read. Throws: UsageError for the first thing wrong, IoError where the
  /// configuration file cannot be read.
  [[nodiscard]] bool parse(const Arguments& arguments, std::ostream& out);

  bool is_given(const std::string& name) const;
  /// Given by the stored set alone.
  bool is_stored(const std::string& name) const;
  /// Every option that has a value, but the excluded ones, as a JSON object; saved to a file it is
  /// a --config file that repeats the run.
  std::string resolved_json(const std::vector<std::string>& excluded = {}) const;
  /// The names of those of these options whose values differ from the ones in a stored set.
  std::vector<std::string> changed_since(const std::string& stored_file,
                                         const std::vector<std::string>& names) const;
  std::string help() const;
  const std::string& command() const { return command_; }

 private:
  struct Conflict {
    std::string a;
    std::string b;
    std::string why;
  };
  struct OneOf {
    std::vector<std::string> names;
    std::string why;
  };
  struct Example {
    std::string line;
    std::string comment;
  };

  Option& declare(const std::string& name, const std::string& value_name, const std::string& help,
                  OptionKind kind);
  OptionHandle declare_choice(const std::string& name, const std::vector<std::string>& words,
                              const std::string& help, const std::function<void(size_t)>& choose,
                              const std::function<size_t()>& chosen);
  Option& find(const std::string& name);
  const Option& find(const std::string& name) const;
  std::vector<std::string> names() const;
  void read_sources(const Arguments& arguments);
  void read_stored();
  void check_together() const;
  [[noreturn]] void unknown(const std::string& shown, const std::string& name,
                            const std::string& where) const;

  std::string command_;
  std::string description_;
  std::string group_ = "Options";
  std::deque<Option> options_;
  std::string positional_;
  std::vector<Conflict> conflicts_;
  std::vector<Conflict> needs_;
  std::vector<OneOf> one_of_;
  std::map<std::string, std::pair<std::string, std::string>> absent_;  ///< why, and what to try
  std::vector<Example> examples_;
  std::optional<std::string> config_file_;
  std::function<std::optional<std::string>()> fallback_;
};

template <class E>
OptionHandle OptionSet::choice(const std::string& name, E& target,
                               std::vector<std::pair<std::string, E>> choices,
                               const std::string& help) {
  std::vector<std::string> words;
  words.reserve(choices.size());
  for (const auto& [word, value] : choices) words.push_back(word);
  const auto choose = [&target, choices](size_t i) { target = choices[i].second; };
  const auto chosen = [&target, choices] {
    size_t i = 0;
    while (i < choices.size() && choices[i].second != target) ++i;
    return i;
  };
  return declare_choice(name, words, help, choose, chosen);
}

}  // namespace ringbolt
