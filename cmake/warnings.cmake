# Warnings of the project's own code; outside headers are SYSTEM and stay silent.
add_library(ringbolt_warnings INTERFACE)
target_compile_options(ringbolt_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wdouble-promotion -Wold-style-cast
  -Wnon-virtual-dtor -Woverloaded-virtual
  # Infinities and NaNs are meaningful (masks, log-sum-exp of nothing), so never -ffast-math. Contraction to fused
  # multiply-add is wanted and stated; nobody reads errno or floating-point traps.
  -ffp-contract=fast -fno-math-errno -fno-trapping-math
  # GCC 12 sees overlapping copies in std::string where there are none, https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105651.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  $<$<BOOL:${RINGBOLT_WERROR}>:-Werror>)
if(RINGBOLT_CHECKS)
  target_compile_definitions(ringbolt_warnings INTERFACE RINGBOLT_CHECKS)
endif()
