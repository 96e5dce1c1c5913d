// RINGBOLT_VECTORIZE before a loop says that its iterations are independent;
// RINGBOLT_VECTORIZE_SUM(x) that they only add to x, in any order; RINGBOLT_VECTORIZE_MAX(x) that
// they take a maximum. Nothing here uses threads (see parallel_for.h).
#pragma once

#define RINGBOLT_PRAGMA(text) _Pragma(#text)
// NOLINTBEGIN(bugprone-macro-parentheses): a name in a clause, which takes none
#define RINGBOLT_VECTORIZE RINGBOLT_PRAGMA(omp simd)
#define RINGBOLT_VECTORIZE_SUM(x) RINGBOLT_PRAGMA(omp simd reduction(+ : x))
#define RINGBOLT_VECTORIZE_MAX(x) RINGBOLT_PRAGMA(omp simd reduction(max : x))
// NOLINTEND(bugprone-macro-parentheses)
