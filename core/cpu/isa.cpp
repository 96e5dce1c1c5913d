#include "core/cpu/isa.h"

#include <algorithm>
#include <cstdlib>

#include "core/base/error.h"

namespace ringbolt::cpu {

std::vector<Isa> available_isas() {
  std::vector<Isa> isas{Isa::generic};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) isas.push_back(Isa::avx2);
  if (isas.back() == Isa::avx2 && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    isas.push_back(Isa::avx512);
  }
  if (isas.back() == Isa::avx512 && __builtin_cpu_supports("avx512bf16"))
    isas.push_back(Isa::avx512_bf16);
#endif
  return isas;
}

std::string name_of(Isa isa) {
  switch (isa) {
    case Isa::generic:
      return "generic";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
  }
  return "?";
}

Isa choose_isa() {
  const std::vector<Isa> isas = available_isas();
  const char* wanted = std::getenv("RINGBOLT_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') return isas.back();
  const auto found =
      std::find_if(isas.begin(), isas.end(), [&](Isa isa) { return name_of(isa) == wanted; });
  if (found != isas.end()) return *found;
  std::string names;
  for (Isa isa : isas) names += (names.empty() ? "" : ", ") + name_of(isa);
  throw UsageError(message(concat("RINGBOLT_CPU_ISA=", wanted, " cannot be used"),
                           concat("this machine has ", names), "Unset it, or name one of these."));
}

}  // namespace ringbolt::cpu
