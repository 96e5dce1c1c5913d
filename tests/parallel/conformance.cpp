#include "tests/parallel/conformance.h"

#include <algorithm>
#include <cstring>
#include <ostream>
#include <string>

#include <gtest/gtest.h>

namespace ringbolt::test {
namespace {

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}
template <class T>
std::span<std::byte> bytes_of(std::vector<T>& values) {
  return std::as_writable_bytes(std::span(values));
}

int next(const Communicator& ranks, int by = 1) { return (ranks.rank() + by) % ranks.size(); }
int previous(const Communicator& ranks, int by = 1) {
  return (ranks.rank() + ranks.size() * 8 - by) % ranks.size();
}

/// Values that tell rank, place and use apart.
std::vector<int64_t> pattern(int rank, int use, size_t n) {
  std::vector<int64_t> values(n);
  for (size_t i = 0; i < n; ++i)
    values[i] = (rank + 1) * 1'000'000'007LL + use * 10'007LL + static_cast<int64_t>(i);
  return values;
}

/// In (-1, 1), of many magnitudes, so that sums round.
std::vector<float> noise(int rank, size_t n) {
  std::vector<float> values(n);
  uint32_t state = 12345U + 77777U * static_cast<uint32_t>(rank);
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;
    value = (static_cast<float>(state >> 8) / 8388608.0F - 1.0F) /
            static_cast<float>(1U << (state >> 28U));
  }
  return values;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kLargest = 140009;
#else
constexpr size_t kLargest = 400009;
#endif
/// The largest takes more than one piece of a reduction (pairwise.cpp), of eight bytes a value.
constexpr size_t kSizes[] = {0, 1, 2, 3, 7, 64, 1021, 20011, kLargest};

void numbers_its_ranks(Communicator& ranks) {
  EXPECT_GE(ranks.rank(), 0);
  EXPECT_LT(ranks.rank(), ranks.size());
  std::vector<int64_t> seen(static_cast<size_t>(ranks.size()), 0);
  seen[static_cast<size_t>(ranks.rank())] = 1;
  ranks.all_reduce(std::span(seen));
  for (const int64_t count : seen) EXPECT_EQ(count, 1);
}

void passes_blocks_around_the_ring(Communicator& ranks) {
  for (const size_t n : kSizes) {
    std::vector<int64_t> block = pattern(ranks.rank(), 0, n);
    for (int step = 1; step <= ranks.size(); ++step) {
      std::vector<int64_t> arrived(n);
      ranks
          .send_receive(bytes_of(std::as_const(block)), next(ranks), bytes_of(arrived),
                        previous(ranks), Tag::ring_operand)
          .wait();
      EXPECT_EQ(arrived, pattern(previous(ranks, step), 0, n)) << n << " values, step " << step;
      block = std::move(arrived);
    }
  }
}

void keeps_the_order_of_a_tag(Communicator& ranks) {
  constexpr int kMessages = 20;
  std::vector<std::vector<int64_t>> sent, received;
  std::vector<Request> requests;
  for (int m = 0; m < kMessages; ++m) {
    const size_t n = static_cast<size_t>(m % 3 == 0 ? 5000 : 5);  // large and small do not overtake
    sent.push_back(pattern(ranks.rank(), m, n));
    received.emplace_back(n);
  }
  for (size_t m = 0; m < kMessages; ++m) {
    requests.push_back(ranks.send_receive(bytes_of(std::as_const(sent[m])), next(ranks),
                                          bytes_of(received[m]), previous(ranks), Tag::ring_sum));
  }
  for (size_t m = kMessages; m-- > 0;) requests[m].wait();  // waited for in the other order
  for (size_t m = 0; m < kMessages; ++m) {
    EXPECT_EQ(received[m], pattern(previous(ranks), static_cast<int>(m), sent[m].size()))
        << "message " << m;
  }
}

void keeps_tags_apart(Communicator& ranks) {
  // Even ranks post the sum first, odd ones the operand: only the tag can tell them apart.
  const std::vector<int64_t> operand = pattern(ranks.rank(), 1, 300);
  const std::vector<int64_t> sum = pattern(ranks.rank(), 2, 300);
  std::vector<int64_t> operand_in(300), sum_in(300);
  const auto post_operand = [&] {
    return ranks.send_receive(bytes_of(operand), next(ranks), bytes_of(operand_in), previous(ranks),
                              Tag::ring_operand);
  };
  const auto post_sum = [&] {
    return ranks.send_receive(bytes_of(sum), next(ranks), bytes_of(sum_in), previous(ranks),
                              Tag::ring_sum);
  };
  const bool sum_first = ranks.rank() % 2 == 0;
  Request first = sum_first ? post_sum() : post_operand();
  Request second = sum_first ? post_operand() : post_sum();
  std::vector<int64_t> one{1};
  ranks.all_reduce(std::span(one));  // a collective between them mixes with neither
  EXPECT_EQ(one[0], ranks.size());
  second.wait();
  first.wait();
  EXPECT_EQ(operand_in, pattern(previous(ranks), 1, 300));
  EXPECT_EQ(sum_in, pattern(previous(ranks), 2, 300));
}

void sends_and_receives_different_sizes(Communicator& ranks) {
  const auto n = [](int rank) { return static_cast<size_t>(rank * 1000 + (rank % 2)); };
  const std::vector<int64_t> mine = pattern(ranks.rank(), 3, n(ranks.rank()));
  std::vector<int64_t> theirs(n(previous(ranks, 2)));
  ranks
      .send_receive(bytes_of(mine), next(ranks, 2), bytes_of(theirs), previous(ranks, 2),
                    Tag::ring_operand)
      .wait();
  EXPECT_EQ(theirs, pattern(previous(ranks, 2), 3, theirs.size()));
}

void sends_to_one_and_receives_from_another(Communicator& ranks) {
  // Rank r sends to P-1-r: pairs, and the middle one itself.
  const int partner = ranks.size() - 1 - ranks.rank();
  const std::vector<int64_t> mine = pattern(ranks.rank(), 4, 777);
  std::vector<int64_t> theirs(777);
  ranks.send_receive(bytes_of(mine), partner, bytes_of(theirs), partner, Tag::ring_operand).wait();
  EXPECT_EQ(theirs, pattern(partner, 4, 777));
}

void delivers_messages_to_oneself_and_counts_none(Communicator& ranks) {
  ranks.barrier();
  const Traffic before = ranks.context().traffic;
  for (const size_t n : {size_t{0}, size_t{3}, size_t{100'000}}) {
    const std::vector<int64_t> mine = pattern(ranks.rank(), 5, n);
    std::vector<int64_t> received(n);
    ranks
        .send_receive(bytes_of(mine), ranks.rank(), bytes_of(received), ranks.rank(),
                      Tag::ring_operand)
        .wait();
    EXPECT_EQ(received, mine);
  }
  EXPECT_EQ(ranks.context().traffic.received_bytes, before.received_bytes);
  EXPECT_EQ(ranks.context().traffic.messages, before.messages);
}

void test_never_blocks_and_ends_in_completion(Communicator& ranks) {
  const std::vector<int64_t> mine = pattern(ranks.rank(), 6, 50'000);
  std::vector<int64_t> theirs(50'000);
  Request request = ranks.send_receive(bytes_of(mine), next(ranks), bytes_of(theirs),
                                       previous(ranks), Tag::ring_operand);
  int64_t polls = 0;
  while (!request.test() && polls < 200'000'000) ++polls;
  EXPECT_TRUE(request.test());
  request.wait();
  EXPECT_EQ(theirs, pattern(previous(ranks), 6, 50'000));
}

template <class T>
void expect_sum(Communicator& ranks, size_t n, std::vector<T> (*values_of)(int, size_t),
                double tolerance) {
  std::vector<T> sum = values_of(ranks.rank(), n);
  ranks.all_reduce(std::span(sum));
  std::vector<double> expected(n, 0.0), magnitude(n, 0.0);
  for (int r = 0; r < ranks.size(); ++r) {
    const std::vector<T> theirs = values_of(r, n);
    for (size_t i = 0; i < n; ++i) {
      expected[i] += static_cast<double>(theirs[i]);
      magnitude[i] += std::abs(static_cast<double>(theirs[i]));
    }
  }
  double worst = 0;
  for (size_t i = 0; i < n; ++i) {
    const double error = std::abs(static_cast<double>(sum[i]) - expected[i]);
    worst = std::max(worst, magnitude[i] == 0 ? error : error / magnitude[i]);
  }
  EXPECT_LE(worst, tolerance) << n << " values";
  // The same bits everywhere.
  std::vector<T> all(n * static_cast<size_t>(ranks.size()));
  ranks.all_gather(bytes_of(std::as_const(sum)), bytes_of(all));
  for (int r = 0; r < ranks.size(); ++r) {
    EXPECT_TRUE(n == 0 || std::memcmp(all.data() + static_cast<size_t>(r) * n, sum.data(),
                                      n * sizeof(T)) == 0)
        << "rank " << r << " has other bits in " << n << " values";
  }
}

std::vector<double> fine_noise(int rank, size_t n) {
  const std::vector<float> coarse = noise(rank, n);
  std::vector<double> values(coarse.begin(), coarse.end());
  for (double& value : values) value /= 3.0;
  return values;
}
std::vector<int64_t> counts(int rank, size_t n) { return pattern(rank, 7, n); }

void sums_the_same_bits_on_all_ranks(Communicator& ranks) {
  // Each of P - 1 additions rounds by half a unit at most: 2^-24 of the magnitudes' sum in float.
  const double additions = ranks.size() - 1;
  for (const size_t n : kSizes) {
    expect_sum<float>(ranks, n, noise, additions * 0x1p-24);
    expect_sum<double>(ranks, n, fine_noise, (additions + 1) * 0x1p-52);
    expect_sum<int64_t>(ranks, n, counts, 0);
  }
}

void sums_in_rank_order(Communicator& ranks) {
  for (const size_t n : {size_t{5}, size_t{300'001}}) {
    std::vector<float> sum = noise(ranks.rank(), n);
    ranks.all_reduce(std::span(sum));
    std::vector<float> expected = noise(0, n);
    for (int r = 1; r < ranks.size(); ++r) {
      const std::vector<float> theirs = noise(r, n);
      for (size_t i = 0; i < n; ++i) expected[i] += theirs[i];
    }
    EXPECT_TRUE(std::memcmp(sum.data(), expected.data(), n * sizeof(float)) == 0) << n << " values";
  }
}

void gathers_in_rank_order_and_in_place(Communicator& ranks) {
  const size_t p = static_cast<size_t>(ranks.size());
  for (const size_t n : kSizes) {
    const std::vector<int64_t> mine = pattern(ranks.rank(), 8, n);
    std::vector<int64_t> apart(n * p), in_place(n * p);
    ranks.all_gather(bytes_of(mine), bytes_of(apart));
    const std::span<int64_t> place =
        std::span(in_place).subspan(static_cast<size_t>(ranks.rank()) * n, n);
    std::copy(mine.begin(), mine.end(), place.begin());
    ranks.all_gather(std::as_bytes(place), bytes_of(in_place));
    EXPECT_EQ(apart, in_place) << n << " values";
    for (size_t r = 0; r < p; ++r) {
      const std::vector<int64_t> theirs = pattern(static_cast<int>(r), 8, n);
      EXPECT_TRUE(std::equal(theirs.begin(), theirs.end(),
                             apart.begin() + static_cast<std::ptrdiff_t>(r * n)))
          << n << " values of rank " << r;
    }
  }
}

void finds_the_largest_of_each_element(Communicator& ranks) {
  const size_t p = static_cast<size_t>(ranks.size());
  std::vector<int64_t> counts;  // each rank has the largest of one
  for (int r = 0; r < ranks.size(); ++r)
    counts.push_back(r == ranks.rank() ? -1 : -10 - ranks.rank());
  std::vector<double> reals(counts.begin(), counts.end());
  all_reduce_largest(ranks, std::span(counts));
  all_reduce_largest(ranks, std::span(reals));
  EXPECT_EQ(counts, std::vector<int64_t>(p, -1));
  EXPECT_EQ(reals, std::vector<double>(p, -1));
}

void reduces_and_scatters_apart_and_in_place(Communicator& ranks) {
  const size_t p = static_cast<size_t>(ranks.size());
  const size_t mine = static_cast<size_t>(ranks.rank());
  for (const size_t n : {size_t{0}, size_t{1}, size_t{13}, size_t{1021}, size_t{400'009} / p}) {
    const std::vector<float> values = noise(ranks.rank(), n * p);
    std::vector<float> expected(n);
    for (size_t r = 0; r < p; ++r) {
      const std::vector<float> theirs = noise(static_cast<int>(r), n * p);
      for (size_t i = 0; i < n; ++i)
        expected[i] = r == 0 ? theirs[mine * n + i] : expected[i] + theirs[mine * n + i];
    }
    std::vector<float> apart(n);
    ranks.reduce_scatter(values, apart);
    EXPECT_EQ(apart, expected) << n << " values a piece";
    // In its own place, and in a neighbour's.
    for (const size_t place : {mine, (mine + 1) % p}) {
      std::vector<float> in_place = values;
      const std::span<float> piece = std::span(in_place).subspan(place * n, n);
      ranks.reduce_scatter(in_place, piece);
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), piece.begin()))
          << n << " values a piece, into place " << place;
    }
  }
}

void trades_pieces_all_to_all(Communicator& ranks) {
  const size_t p = static_cast<size_t>(ranks.size());
  for (const size_t n : kSizes) {
    std::vector<int64_t> send, expected;
    for (int r = 0; r < ranks.size(); ++r) {
      const std::vector<int64_t> to = pattern(ranks.rank(), r, n);
      const std::vector<int64_t> from = pattern(r, ranks.rank(), n);
      send.insert(send.end(), to.begin(), to.end());
      expected.insert(expected.end(), from.begin(), from.end());
    }
    std::vector<int64_t> received(n * p);
    ranks.all_to_all(bytes_of(std::as_const(send)), bytes_of(received));
    EXPECT_EQ(received, expected) << n << " values a piece";
  }
}

void broadcasts_from_any_root(Communicator& ranks) {
  for (int root = 0; root < ranks.size(); ++root) {
    for (const size_t n : {size_t{0}, size_t{1}, size_t{50'021}}) {
      std::vector<int64_t> values = pattern(ranks.rank(), 9, n);
      ranks.broadcast(bytes_of(values), root);
      EXPECT_EQ(values, pattern(root, 9, n)) << n << " values from rank " << root;
    }
  }
}

void a_barrier_is_passed_after_all_have_come(Communicator& ranks) {
  // A rank's message, sent before the barrier, has left when the barrier is passed: its count is
  // seen by a sum after it.
  for (int round = 0; round < 20; ++round) {
    std::vector<int64_t> arrived{round + ranks.rank()};
    ranks.barrier();
    ranks.all_reduce(std::span(arrived));
    EXPECT_EQ(arrived[0],
              static_cast<int64_t>(round) * ranks.size() + ranks.size() * (ranks.size() - 1) / 2);
  }
}

void splits_into_groups_of_odd_shapes(Communicator& ranks) {
  // Three colours of unequal size, the order within each reversed.
  const int colour = ranks.rank() % 3 == 0 ? 5 : ranks.rank() % 3;
  const auto group = ranks.split(colour, -ranks.rank());
  std::vector<int64_t> members(static_cast<size_t>(group->size()));
  const std::vector<int64_t> mine{ranks.rank()};
  group->all_gather(bytes_of(mine), bytes_of(members));
  EXPECT_EQ(members[static_cast<size_t>(group->rank())], ranks.rank());
  EXPECT_TRUE(std::is_sorted(members.rbegin(), members.rend()));
  int64_t expected_size = 0;
  for (int r = 0; r < ranks.size(); ++r) expected_size += r % 3 == ranks.rank() % 3 ? 1 : 0;
  EXPECT_EQ(group->size(), expected_size);
  for (const int64_t member : members) EXPECT_EQ(member % 3, ranks.rank() % 3);

  const auto part = group->split(group->rank() / 2, 0);  // equal keys keep the ranks' order
  EXPECT_LE(part->size(), 2);
  EXPECT_EQ(part->rank(), group->rank() % 2);
  EXPECT_EQ(&part->context(), &ranks.context());
}

void keeps_communicators_apart(Communicator& ranks) {
  // The same pairs exchange in three communicators at once, with the same tag.
  const auto again = ranks.split(0, ranks.rank());
  const auto reversed = ranks.split(0, -ranks.rank());
  Communicator* const all[] = {&ranks, again.get(), reversed.get()};
  std::vector<std::vector<int64_t>> sent, received(3, std::vector<int64_t>(400));
  std::vector<Request> requests;
  for (int c = 0; c < 3; ++c) sent.push_back(pattern(ranks.rank(), 20 + c, 400));
  // Odd ranks post in the other order.
  for (int i = 0; i < 3; ++i) {
    const int c = ranks.rank() % 2 == 0 ? i : 2 - i;
    // In the reversed one the next is the previous: send the other way, so that all go to the same
    // rank.
    const int step = c == 2 ? -1 : 1;
    const size_t at = static_cast<size_t>(c);
    requests.push_back(all[c]->send_receive(
        bytes_of(std::as_const(sent[at])), next(*all[c], step + all[c]->size()),
        bytes_of(received[at]), previous(*all[c], step), Tag::ring_operand));
  }
  for (Request& request : requests) request.wait();
  for (int c = 0; c < 3; ++c) {
    EXPECT_EQ(received[static_cast<size_t>(c)], pattern(previous(ranks), 20 + c, 400))
        << "communicator " << c;
  }
}

/// What `operation` makes this rank receive.
template <class F>
Traffic traffic_of(Communicator& ranks, const F& operation) {
  ranks.barrier();
  const Traffic before = ranks.context().traffic;
  operation();
  const Traffic after = ranks.context().traffic;
  return {after.received_bytes - before.received_bytes, after.messages - before.messages,
          after.waited_seconds - before.waited_seconds};
}

void counts_the_traffic_of_each_operation(Communicator& ranks) {
  const int64_t p = ranks.size();
  const size_t n = 60'000;  // values a piece: beyond what small sums take
  std::vector<float> piece(n), all(n * static_cast<size_t>(p)), other = all;
  const int64_t bytes = static_cast<int64_t>(n * sizeof(float));

  const Traffic exchange = traffic_of(ranks, [&] {
    ranks
        .send_receive(bytes_of(std::as_const(piece)), next(ranks),
                      std::as_writable_bytes(std::span(other).first(n)), previous(ranks),
                      Tag::ring_operand)
        .wait();
  });
  EXPECT_EQ(exchange.received_bytes, p == 1 ? 0 : bytes);
  EXPECT_EQ(exchange.messages, p == 1 ? 0 : 1);
  EXPECT_GE(exchange.waited_seconds, 0);

  const Traffic gather =
      traffic_of(ranks, [&] { ranks.all_gather(bytes_of(std::as_const(piece)), bytes_of(all)); });
  EXPECT_EQ(gather.received_bytes, (p - 1) * bytes);
  EXPECT_EQ(gather.messages, p - 1);

  const Traffic scatter = traffic_of(ranks, [&] { ranks.reduce_scatter(all, piece); });
  EXPECT_EQ(scatter.received_bytes, (p - 1) * bytes);

  const Traffic reduce = traffic_of(ranks, [&] { ranks.all_reduce(std::span(all)); });
  EXPECT_EQ(reduce.received_bytes, 2 * (p - 1) * bytes);

  const Traffic trade =
      traffic_of(ranks, [&] { ranks.all_to_all(bytes_of(std::as_const(all)), bytes_of(other)); });
  EXPECT_EQ(trade.received_bytes, (p - 1) * bytes);

  const Traffic cast = traffic_of(ranks, [&] { ranks.broadcast(bytes_of(piece), 0); });
  EXPECT_EQ(cast.received_bytes, ranks.rank() == 0 ? 0 : bytes);

  const Traffic wall = traffic_of(ranks, [&] { ranks.barrier(); });
  EXPECT_EQ(wall.received_bytes, 0);
}

}  // namespace

const std::vector<Promise>& promises() {
  static const std::vector<Promise> all{
      {"NumbersItsRanks", numbers_its_ranks},
      {"PassesBlocksAroundTheRing", passes_blocks_around_the_ring},
      {"KeepsTheOrderOfATag", keeps_the_order_of_a_tag},
      {"KeepsTagsApart", keeps_tags_apart},
      {"SendsAndReceivesDifferentSizes", sends_and_receives_different_sizes},
      {"SendsToOneAndReceivesFromAnother", sends_to_one_and_receives_from_another},
      {"DeliversMessagesToOneselfAndCountsNone", delivers_messages_to_oneself_and_counts_none},
      {"TestNeverBlocksAndEndsInCompletion", test_never_blocks_and_ends_in_completion},
      {"SumsTheSameBitsOnAllRanks", sums_the_same_bits_on_all_ranks},
      {"SumsInRankOrder", sums_in_rank_order},
      {"GathersInRankOrderAndInPlace", gathers_in_rank_order_and_in_place},
      {"FindsTheLargestOfEachElement", finds_the_largest_of_each_element},
      {"ReducesAndScattersApartAndInPlace", reduces_and_scatters_apart_and_in_place},
      {"TradesPiecesAllToAll", trades_pieces_all_to_all},
      {"BroadcastsFromAnyRoot", broadcasts_from_any_root},
      {"ABarrierIsPassedAfterAllHaveCome", a_barrier_is_passed_after_all_have_come},
      {"SplitsIntoGroupsOfOddShapes", splits_into_groups_of_odd_shapes},
      {"KeepsCommunicatorsApart", keeps_communicators_apart},
      {"CountsTheTrafficOfEachOperation", counts_the_traffic_of_each_operation},
  };
  return all;
}

void PrintTo(const Promise& promise, std::ostream* out) { *out << promise.name; }

}  // namespace ringbolt::test
