// A message of more bytes than an int counts, over MPI.
#include <cstdint>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/ranks_main.h"

namespace ringbolt {
namespace {

/// Of this machine, in KiB; 0 where it is not known.
int64_t available_kib() {
  std::ifstream info("/proc/meminfo");
  std::string word;
  while (info >> word) {
    int64_t value = 0;
    if (word == "MemAvailable:" && info >> value) return value;
  }
  return 0;
}

uint64_t value_at(size_t i) { return i * 0x9E3779B97F4A7C15ULL; }

TEST(MpiRanks, ExchangeMoreBytesThanAnIntCounts) {
  Communicator& ranks = test::world();
  ASSERT_EQ(ranks.size(), 2);
  // Not a multiple of the parts that it is cut into. Each rank holds it once: rank 0 sends, rank 1
  // receives.
  const size_t n = (static_cast<size_t>(std::numeric_limits<int32_t>::max()) + 4097) / 8 + 11;
  int64_t enough = available_kib() > 6 * 1024 * 1024 ? 1 : 0;
  ranks.broadcast(std::as_writable_bytes(std::span(&enough, 1)), 0);
  if (enough == 0) GTEST_SKIP() << "NOT TESTED: less than 6 GiB of memory are free";

  std::vector<uint64_t> large(n);
  std::vector<std::byte> small(3, std::byte{7}), answer(3);
  if (ranks.rank() == 0) {
    for (size_t i = 0; i < n; ++i) large[i] = value_at(i);
    ranks.send_receive(std::as_bytes(std::span(large)), 1, answer, 1, Tag::ring_operand).wait();
    EXPECT_EQ(answer, small);
  } else {
    ranks.send_receive(small, 0, std::as_writable_bytes(std::span(large)), 0, Tag::ring_operand)
        .wait();
    size_t wrong = 0;
    for (size_t i = 0; i < n; ++i) wrong += large[i] == value_at(i) ? 0U : 1U;
    EXPECT_EQ(wrong, 0U) << "of " << n << " values";
    EXPECT_EQ(ranks.context().traffic.received_bytes,
              static_cast<int64_t>(n * sizeof(uint64_t) + sizeof enough));
  }
}

}  // namespace
}  // namespace ringbolt
