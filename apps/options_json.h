// Options as JSON: a --config file that ends in .json, and the resolved set that is stored with a
// run.
#pragma once

#include <string>
#include <vector>

namespace ringbolt {

/// One name of a JSON file with its value as words: numbers and switches as they are written, lists
/// one word an element.
struct JsonOption {
  std::string name;
  std::vector<std::string> words;
};

/// The entries of a flat JSON object. Throws: IoError where the file cannot be read, UsageError
/// where it holds anything but an object of numbers, texts, switches and lists of these.
std::vector<JsonOption> read_json_options(const std::string& file);

}  // namespace ringbolt
