#include "apps/options.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/error.h"

namespace ringbolt {
namespace {

enum class Schedule { constant, cosine };

/// A command with an option of every type.
struct Sample {
  std::string tokens;
  int64_t context_length = 4096;
  std::optional<int64_t> steps;
  double rope_base = 10000;
  std::optional<double> factor;
  bool resume = false;
  Schedule schedule = Schedule::cosine;
  std::vector<int64_t> lengths{128, 1024};
  std::vector<std::string> input;
  std::optional<std::string> checkpoint;
  std::optional<std::string> model;
  OptionSet options{"sample", "Does nothing, with every kind of option."};

  Sample() {
    options.group("Data");
    options.add("tokens", "FILE", tokens, "Token file").required();
    options.add("input", "PATH", input, "Text files");
    options.group("Training");
    options.add("context-length", "N", context_length, "Tokens of a sequence")
        .at_least(2)
        .at_most(1 << 20);
    options.add("steps", "N", steps, "Optimizer steps").at_least(1);
    options.add("rope-base", "B", rope_base, "Rotary base").above(1);
    options.add("factor", "F", factor, "Linear factor").by_default("that of the checkpoint");
    options.flag("resume", resume, "Goes on with the run");
    options.choice<Schedule>("schedule", schedule,
                             {{"constant", Schedule::constant}, {"cosine", Schedule::cosine}},
                             "Learning rate schedule");
    options.add("context-lengths", "LIST", lengths, "Lengths").at_least(1);
    options.add("checkpoint", "DIR", checkpoint, "Where the weights come from");
    options.add("model", "SHAPE", model, "Or a new model");
    options.positional("input");
    options.conflicts("checkpoint", "model", "weights come from one place");
    options.absent("stepwise", "nothing goes by steps here", "Use another command.");
    options.needs("resume", "steps", "a run goes on to a number of steps");
    options.example("sample --tokens t.h5 --steps 10", "ten steps");
  }

  void parse(const Arguments& arguments) {
    std::ostringstream out;
    ASSERT_TRUE(options.parse(arguments, out));
    EXPECT_EQ(out.str(), "");
  }
};

/// What the sample command says of these words.
std::string complaint(const Arguments& arguments) {
  Sample sample;
  std::ostringstream out;
  try {
    static_cast<void>(sample.options.parse(arguments, out));
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// A RINGBOLT_ variable for the length of a test.
class Variable {
 public:
  Variable(std::string name, const std::string& value) : name_(std::move(name)) {
    setenv(name_.c_str(), value.c_str(), 1);
  }
  ~Variable() { unsetenv(name_.c_str()); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  std::string name_;
};

/// A file of the given name and contents, removed at the end.
class ConfigFile {
 public:
  ConfigFile(const std::string& name, const std::string& contents)
      : folder_(std::filesystem::temp_directory_path() /
                ("ringbolt-options-" + std::to_string(getpid()))) {
    std::filesystem::create_directories(folder_);
    path_ = (folder_ / name).string();
    std::ofstream(path_) << contents;
  }
  ~ConfigFile() { std::filesystem::remove_all(folder_); }
  ConfigFile(const ConfigFile&) = delete;
  ConfigFile& operator=(const ConfigFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::filesystem::path folder_;
  std::string path_;
};

TEST(Options, ReadEveryTypeFromTheCommandLine) {
  Sample sample;
  sample.parse({"--tokens", "t.h5", "--context-length=16K", "--steps", "1e3", "--rope-base", "1e6",
                "--factor=4", "--resume", "--schedule", "constant", "--context-lengths",
                "128,512,1K", "--checkpoint", "run", "--input", "a", "b"});
  EXPECT_EQ(sample.tokens, "t.h5");
  EXPECT_EQ(sample.context_length, 16384);
  EXPECT_EQ(sample.steps, 1000);
  EXPECT_EQ(sample.rope_base, 1e6);
  EXPECT_EQ(sample.factor, 4.0);
  EXPECT_TRUE(sample.resume);
  EXPECT_EQ(sample.schedule, Schedule::constant);
  EXPECT_EQ(sample.lengths, (std::vector<int64_t>{128, 512, 1024}));
  EXPECT_EQ(sample.checkpoint, "run");
  EXPECT_FALSE(sample.model.has_value());
  EXPECT_EQ(sample.input, (std::vector<std::string>{"a", "b"}));
}

TEST(Options, KeepDefaultsOfWhatIsNotGiven) {
  Sample sample;
  sample.parse({"--tokens", "t.h5"});
  EXPECT_EQ(sample.context_length, 4096);
  EXPECT_FALSE(sample.steps.has_value());
  EXPECT_FALSE(sample.resume);
  EXPECT_EQ(sample.lengths, (std::vector<int64_t>{128, 1024}));
  EXPECT_FALSE(sample.options.is_given("context-length"));
  EXPECT_TRUE(sample.options.is_given("tokens"));
}

TEST(Options, TakeWordsWithoutANameWhereTheCommandWantsThem) {
  Sample sample;
  sample.parse({"--tokens", "t.h5", "a.txt", "-", "b.txt"});
  EXPECT_EQ(sample.input, (std::vector<std::string>{"a.txt", "-", "b.txt"}));
}

TEST(Options, FlagsCanBeTurnedOff) {
  Sample sample;
  sample.resume = true;
  sample.parse({"--tokens", "t.h5", "--resume=off"});
  EXPECT_FALSE(sample.resume);
}

TEST(Options, TakeTheCommandLineBeforeTheFileBeforeTheVariablesBeforeDefaults) {
  const ConfigFile file("run.ini", "# a comment\nsteps = 20\ncontext-length = 1K\nresume = on\n");
  const Variable steps("RINGBOLT_STEPS", "30");
  const Variable length("RINGBOLT_CONTEXT_LENGTH", "2K");
  const Variable base("RINGBOLT_ROPE_BASE", "1e6");
  Sample sample;
  sample.parse({"--tokens", "t.h5", "--steps", "10", "--config", file.path()});
  EXPECT_EQ(sample.steps, 10);
  EXPECT_EQ(sample.context_length, 1024);
  EXPECT_EQ(sample.rope_base, 1e6);
  EXPECT_TRUE(sample.resume);
  EXPECT_EQ(sample.schedule, Schedule::cosine);
}

TEST(Options, IgnoreVariablesThatAreNoOptionsOrEmpty) {
  const Variable isa("RINGBOLT_CPU_ISA", "avx2");
  const Variable data("RINGBOLT_DATA", "/data");
  const Variable help("RINGBOLT_HELP", "1");
  const Variable steps("RINGBOLT_STEPS", "");
  Sample sample;
  sample.parse({"--tokens", "t.h5"});
  EXPECT_FALSE(sample.steps.has_value());
}

TEST(Options, ReadAConfigurationInJson) {
  const ConfigFile file("run.json",
                        R"({"tokens": "t.h5", "steps": 20, "rope-base": 5e5, "resume": true,
      "context-lengths": [128, "1K"], "input": ["a", "b"], "schedule": "constant"})");
  Sample sample;
  sample.parse({"--config", file.path()});
  EXPECT_EQ(sample.tokens, "t.h5");
  EXPECT_EQ(sample.steps, 20);
  EXPECT_EQ(sample.rope_base, 5e5);
  EXPECT_TRUE(sample.resume);
  EXPECT_EQ(sample.lengths, (std::vector<int64_t>{128, 1024}));
  EXPECT_EQ(sample.input, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(sample.schedule, Schedule::constant);
}

TEST(Options, ResolvedSetReadsBackAsTheSameOptions) {
  Sample first;
  first.parse({"--tokens", "a \"quoted\" name.h5", "--steps", "16K", "--rope-base", "123456.789",
               "--resume", "x", "y"});
  const ConfigFile file("options.json", first.options.resolved_json());
  Sample second;
  second.parse({"--config", file.path()});
  EXPECT_EQ(second.tokens, first.tokens);
  EXPECT_EQ(second.steps, 16384);
  EXPECT_EQ(second.rope_base, 123456.789);
  EXPECT_TRUE(second.resume);
  EXPECT_EQ(second.input, first.input);
  EXPECT_EQ(second.lengths, first.lengths);
  EXPECT_FALSE(second.factor.has_value());
  EXPECT_EQ(second.options.resolved_json(), first.options.resolved_json());
}

TEST(OptionErrors, NameTheNearestOption) {
  EXPECT_EQ(complaint({"--tokens", "t", "--contxt-length", "5"}),
            "unknown option '--contxt-length' (ringbolt sample has none of that name). Did you "
            "mean --context-length?");
  EXPECT_EQ(
      complaint({"--tokens", "t", "--stepps=5"}),
      "unknown option '--stepps' (ringbolt sample has none of that name). Did you mean --steps?");
  EXPECT_EQ(
      complaint({"--tokens", "t", "-steps", "5"}),
      "unknown option '-steps' (ringbolt sample has none of that name). Did you mean --steps?");
  EXPECT_EQ(complaint({"--zzz"}),
            "unknown option '--zzz' (ringbolt sample has none of that name). See ringbolt sample "
            "--help.");
}

TEST(OptionErrors, SayWhyAnOptionOfOtherCommandsIsRefused) {
  EXPECT_EQ(complaint({"--tokens", "t", "--stepwise", "5"}),
            "--stepwise is refused here (nothing goes by steps here). Use another command.");
}

TEST(OptionErrors, DoNotGuessAbbreviations) {
  EXPECT_EQ(
      complaint({"--tokens", "t", "--step", "5"}),
      "unknown option '--step' (ringbolt sample has none of that name). Did you mean --steps?");
}

TEST(OptionErrors, SayWhichValueIsWrongAndWhereItCameFrom) {
  EXPECT_EQ(complaint({"--tokens", "t", "--steps", "16X"}),
            "--steps: '16X' is not a count (the suffix 'X' is none of K, M, G). Write a whole "
            "number such as 4096, 16K (= "
            "16384), 1M (= 1048576) or 1e6.");
  EXPECT_EQ(complaint({"--tokens", "t", "--rope-base", "1M"}),
            "--rope-base: '1M' is not a real number (digits, a point and an exponent make one). "
            "Write 0.1, 500000 or 1e6; "
            "suffixes such as K are for counts.");
  EXPECT_EQ(complaint({"--tokens", "t", "--resume=maybe", "--steps", "1"}),
            "--resume: 'maybe' is neither on nor off (this is a switch). Write on or off.");
  EXPECT_EQ(complaint({"--tokens", "t", "--schedule", "cosin"}),
            "--schedule cannot be 'cosin' (it is one of constant, cosine). Choose one of these.");
  {
    const Variable steps("RINGBOLT_STEPS", "many");
    EXPECT_EQ(complaint({"--tokens", "t"}).substr(0, 42),
              "RINGBOLT_STEPS: 'many' is not a count (it ");
  }
  const ConfigFile file("run.ini", "steps = many\n");
  EXPECT_EQ(complaint({"--tokens", "t", "--config", file.path()})
                .find(file.path() + ": steps: 'many' is not a count"),
            0U);
}

TEST(OptionErrors, SayTheRange) {
  EXPECT_EQ(complaint({"--tokens", "t", "--steps", "0"}),
            "--steps cannot be 0 (it must be at least 1). Give at least 1.");
  EXPECT_EQ(complaint({"--tokens", "t", "--context-length", "2M"}),
            "--context-length cannot be 2M (it must be at most 1M). Give at most 1M.");
  EXPECT_EQ(complaint({"--tokens", "t", "--rope-base", "1"}),
            "--rope-base cannot be 1 (it must be above 1). Give above 1.");
  EXPECT_EQ(complaint({"--tokens", "t", "--context-lengths", "128,0"}),
            "--context-lengths cannot be 0 (it must be at least 1). Give at least 1.");
}

TEST(OptionErrors, SayWhatIsMissingOrGivenTwice) {
  EXPECT_EQ(complaint({}),
            "--tokens is missing (ringbolt sample cannot do without it). Add --tokens FILE.");
  EXPECT_EQ(complaint({"--tokens"}),
            "--tokens has no value (a value must follow it). See ringbolt sample --help.");
  EXPECT_EQ(complaint({"--tokens="}),
            "--tokens has no value (a value must follow it). See ringbolt sample --help.");
  EXPECT_EQ(complaint({"--tokens", "--steps", "3"}),
            "--tokens has no value (a value must follow it). See ringbolt sample --help.");
  EXPECT_EQ(complaint({"--tokens", "t", "--steps", "1", "--steps", "2"}),
            "--steps is given twice (it takes one value). Give it once.");
  EXPECT_EQ(complaint({"--tokens", "t", "--context-lengths", "1,,2"}),
            "--context-lengths: the list '1,,2' has an empty part (commas separate values). Write "
            "it as 128,512,1K.");
}

TEST(OptionErrors, SayWhatContradicts) {
  EXPECT_EQ(complaint({"--tokens", "t", "--checkpoint", "a", "--model", "b"}),
            "--checkpoint and --model contradict each other (weights come from one place). Give "
            "one of them.");
  EXPECT_EQ(complaint({"--tokens", "t", "--resume"}),
            "--resume needs --steps (a run goes on to a number of steps). Add --steps.");
  const Variable model("RINGBOLT_MODEL", "tiny");
  EXPECT_EQ(complaint({"--tokens", "t", "--checkpoint", "a"}),
            "--checkpoint and RINGBOLT_MODEL contradict each other (weights come from one place). "
            "Give one of them.");
}

TEST(OptionErrors, OneOfWantsExactlyOne) {
  std::optional<std::string> text;
  std::optional<std::string> tokens;
  OptionSet options("sample", "");
  options.add("text", "FILE", text, "");
  options.add("tokens", "FILE", tokens, "");
  options.one_of({"text", "tokens"}, "something must be evaluated");
  std::ostringstream out;
  const auto told = [&](const Arguments& arguments) -> std::string {
    try {
      static_cast<void>(options.parse(arguments, out));
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(
      told({}),
      "--text or --tokens is missing (something must be evaluated). See ringbolt sample --help.");
  EXPECT_EQ(
      told({"--text", "a", "--tokens", "b"}),
      "--text and --tokens contradict each other (something must be evaluated). Give one of them.");
}

TEST(OptionErrors, NameTheConfigurationFile) {
  EXPECT_THROW(
      {
        Sample sample;
        std::ostringstream out;
        static_cast<void>(
            sample.options.parse({"--tokens", "t", "--config", "/nowhere/run.ini"}, out));
      },
      IoError);
  {
    const ConfigFile file("run.ini", "stepps = 5\n");
    EXPECT_EQ(complaint({"--tokens", "t", "--config", file.path()}),
              "unknown option 'stepps' (it stands in " + file.path() +
                  "; ringbolt sample has none of that name). Did you mean --steps?");
  }
  {
    const ConfigFile file("run.ini", "this is no option\n");
    EXPECT_EQ(complaint({"--tokens", "t", "--config", file.path()})
                  .find("cannot read the options in " + file.path() + " ("),
              0U);
  }
  for (const std::string text :
       {"", "[1, 2]", "{\"steps\": {\"a\": 1}}", "{\"steps\": null}", "{\"steps\": 5"}) {
    const ConfigFile file("run.json", text);
    EXPECT_NE(complaint({"--tokens", "t", "--config", file.path()}).find(file.path()),
              std::string::npos)
        << text;
  }
}

TEST(OptionErrors, WordsAreRefusedWhereTheCommandTakesNone) {
  std::string tokens;
  OptionSet options("plain", "");
  options.add("tokens", "FILE", tokens, "");
  std::ostringstream out;
  try {
    static_cast<void>(options.parse({"stray"}, out));
    FAIL() << "accepted";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(),
                 "there is a word without an option before it (ringbolt plain takes named options "
                 "only). See ringbolt plain "
                 "--help.");
  }
}

TEST(OptionHelp, ShowsUsageGroupsDefaultsAndExamples) {
  Sample sample;
  std::ostringstream out;
  EXPECT_FALSE(sample.options.parse({"--help", "--nonsense"}, out));
  const std::string help = out.str();
  for (const std::string part :
       {"Usage: ringbolt sample --tokens FILE [options] [PATH ...]\n", "\nData:\n", "\nTraining:\n",
        "[required]", "[default: 4K]", "[default: that of the checkpoint]", "[default: 128,1K]",
        "[default: off]", "[default: cosine]", "--schedule constant|cosine",
        "\nExamples:\n  # ten steps\n  ringbolt sample --tokens t.h5 --steps 10\n"}) {
    EXPECT_NE(help.find(part), std::string::npos) << part << "\nin\n" << help;
  }
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100U) << line;
}

TEST(Options, AskingForAnUndeclaredOptionIsADefect) {
  Sample sample;
  EXPECT_THROW(static_cast<void>(sample.options.is_given("nothing")), std::logic_error);
}

}  // namespace
}  // namespace ringbolt
