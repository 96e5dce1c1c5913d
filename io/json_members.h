// Reads the members of a JSON object, naming the file and the one that is wrong.
#pragma once

#include <string>
#include <vector>

#include "io/json.h"

namespace ringbolt {

/// Throws: IoError "cannot use the model configuration in <origin> (why). …"
[[noreturn]] void refuse_configuration(const std::string& origin, const std::string& why);

class JsonMembers {
 public:
  /// Throws: IoError where it is no object. Both must outlive this.
  JsonMembers(const Json& json, const std::string& origin);

  /// Missing members, and null ones, throw IoError or take the second argument.
  int64_t integer(const char* name) const;
  int64_t integer(const char* name, int64_t otherwise) const;
  double real(const char* name) const;
  double real(const char* name, double otherwise) const;
  bool flag(const char* name, bool otherwise) const;
  std::string text(const char* name, const std::string& otherwise) const;
  std::vector<double> reals(const char* name) const;
  /// The member, or nullptr where it is missing or null.
  const Json* find(const char* name) const;

 private:
  bool missing(const char* name) const;
  template <class Read>
  auto get(const char* name, const Read& read) const;

  const Json& json_;
  const std::string& origin_;
};

}  // namespace ringbolt
