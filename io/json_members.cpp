#include "io/json_members.h"

#include "core/base/error.h"

namespace ringbolt {

void refuse_configuration(const std::string& origin, const std::string& why) {
  throw IoError(
      message(concat("cannot use the model configuration in ", origin), why, "Check its members."));
}

JsonMembers::JsonMembers(const Json& json, const std::string& origin)
    : json_(json), origin_(origin) {
  if (!json.is_object()) refuse_configuration(origin, "it is not a JSON object");
}

bool JsonMembers::missing(const char* name) const {
  return json_.find(name) == nullptr || json_.find(name)->is_null();
}

template <class Read>
auto JsonMembers::get(const char* name, const Read& read) const {
  if (missing(name)) refuse_configuration(origin_, concat(name, " is missing"));
  try {
    return read(json_.at(name));
  } catch (const UsageError& error) {
    refuse_configuration(origin_, concat(name, ": ", error.what()));
  }
}

int64_t JsonMembers::integer(const char* name) const {
  return get(name, [](const Json& v) { return v.as_integer(); });
}

int64_t JsonMembers::integer(const char* name, int64_t otherwise) const {
  return missing(name) ? otherwise : integer(name);
}

double JsonMembers::real(const char* name) const {
  return get(name, [](const Json& v) { return v.as_real(); });
}

double JsonMembers::real(const char* name, double otherwise) const {
  return missing(name) ? otherwise : real(name);
}

bool JsonMembers::flag(const char* name, bool otherwise) const {
  return missing(name) ? otherwise : get(name, [](const Json& v) { return v.as_bool(); });
}

std::string JsonMembers::text(const char* name, const std::string& otherwise) const {
  return missing(name) ? otherwise : get(name, [](const Json& v) { return v.as_text(); });
}

std::vector<double> JsonMembers::reals(const char* name) const {
  return get(name, [](const Json& v) {
    std::vector<double> numbers;
    for (const Json& item : v.items()) numbers.push_back(item.as_real());
    return numbers;
  });
}

const Json* JsonMembers::find(const char* name) const {
  return missing(name) ? nullptr : json_.find(name);
}

}  // namespace ringbolt
