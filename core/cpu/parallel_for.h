// The only door to OpenMP.
//
// Loops are cut into pieces whose bounds depend on the work alone, so that a result does not depend
// on how many threads there were.
#pragma once

#include <cstdint>

#include <omp.h>

namespace ringbolt::cpu {

inline int max_threads() { return omp_get_max_threads(); }
inline void set_threads(int n) { omp_set_num_threads(n); }
inline int thread_index() { return omp_get_thread_num(); }
inline int available_cores() { return omp_get_num_procs(); }

/// body(i) for i in [0, n), each on some thread, in equal contiguous shares. Use it where all i
/// cost the same. An exception in `body` ends the process: bodies are arithmetic and do not throw.
template <class Body>
void parallel_for(int64_t n, const Body& body) noexcept {
  if (n == 1) return body(int64_t{0});
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; ++i) body(i);
}

/// The same, each i going to the next free thread. Use it where they differ (causal rows).
template <class Body>
void parallel_for_dynamic(int64_t n, const Body& body) noexcept {
  if (n == 1) return body(int64_t{0});
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t i = 0; i < n; ++i) body(i);
}

/// body(begin, end) over [0, n) in pieces of `grain`.
template <class Body>
void parallel_pieces(int64_t n, int64_t grain, const Body& body) noexcept {
  const int64_t pieces = (n + grain - 1) / grain;
  parallel_for(pieces,
               [&](int64_t p) { body(p * grain, p * grain + grain < n ? p * grain + grain : n); });
}

}  // namespace ringbolt::cpu
