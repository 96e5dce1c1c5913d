// Layouts: every token once, every pair of the mask once, work balanced.
#include "parallel/layout.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace ringbolt {
namespace {

using Mask = AttentionSlice::Mask;
using Offsets = std::vector<int64_t>;

constexpr LayoutKind kKinds[] = {LayoutKind::contiguous, LayoutKind::zigzag, LayoutKind::striped};
constexpr int kRanks[] = {1, 2, 3, 4, 5, 8};

Offsets offsets_of(const std::vector<int64_t>& lengths, int64_t begin = 0) {
  Offsets offsets{begin};
  for (const int64_t n : lengths) offsets.push_back(offsets.back() + n);
  return offsets;
}

/// Lists that are likely to go wrong, then random ones.
std::vector<Offsets> document_lists() {
  std::vector<Offsets> lists;
  for (const int64_t n : {0, 1, 2, 3, 5, 7, 8, 15, 16, 17, 33, 61, 64, 97}) {
    lists.push_back(offsets_of({n}));
  }
  lists.push_back({0});
  lists.push_back(offsets_of({1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
  lists.push_back(offsets_of({0, 3, 0, 0, 40, 1, 0}));
  lists.push_back(offsets_of({20, 20}, 13));
  std::mt19937_64 random(7);
  for (int i = 0; i < 40; ++i) {
    std::vector<int64_t> lengths(1 + random() % 9);
    for (int64_t& n : lengths) n = static_cast<int64_t>(random() % (i % 2 == 0 ? 40 : 9));
    lists.push_back(offsets_of(lengths));
  }
  return lists;
}

template <class Body>
void for_all_layouts(const Body& body) {
  for (const Offsets& offsets : document_lists()) {
    for (const LayoutKind kind : kKinds) {
      for (const int ranks : kRanks) {
        SCOPED_TRACE(concat(name_of(kind), ", ", ranks, " ranks, ", offsets.size() - 1,
                            " documents, ", offsets.back() - offsets.front(), " tokens"));
        body(SequenceLayout(kind, offsets, ranks), offsets);
      }
    }
  }
}

TEST(SequenceLayout, GivesEveryTokenToOneRank) {
  for_all_layouts([](const SequenceLayout& layout, const Offsets& offsets) {
    std::vector<int> seen(static_cast<size_t>(offsets.back()), 0);
    for (int rank = 0; rank < layout.ranks(); ++rank) {
      const std::vector<int64_t> tokens = layout.tokens(rank);
      const std::vector<int64_t> positions = layout.positions(rank);
      ASSERT_EQ(static_cast<int64_t>(tokens.size()), layout.tokens_per_rank());
      ASSERT_EQ(tokens.size(), positions.size());
      for (size_t i = 0; i < tokens.size(); ++i) {
        if (tokens[i] < 0) {
          EXPECT_EQ(positions[i], 0);
          continue;
        }
        ++seen[static_cast<size_t>(tokens[i])];
        const auto document = std::upper_bound(offsets.begin(), offsets.end(), tokens[i]) - 1;
        EXPECT_EQ(positions[i], tokens[i] - *document);
      }
    }
    for (size_t t = static_cast<size_t>(offsets.front()); t < seen.size(); ++t) {
      EXPECT_EQ(seen[t], 1) << "token " << t;
    }
  });
}

TEST(SequenceLayout, ListsSegmentsByDocumentAndPositionWithoutGaps) {
  for_all_layouts([](const SequenceLayout& layout, const Offsets&) {
    for (int rank = 0; rank < layout.ranks(); ++rank) {
      int64_t local = 0;
      std::pair<int64_t, int64_t> last{-1, -1};
      for (const Segment& s : layout.segments(rank)) {
        EXPECT_EQ(s.local, local);
        EXPECT_GT(s.count, 0);
        EXPECT_LT(last, std::pair(s.document, s.first));
        last = {s.document, s.first};
        local += s.count;
      }
    }
  });
}

/// Counts every visible (query, key) pair of the slices of all pairs of ranks, by token.
std::vector<int> pair_counts(const SequenceLayout& layout, Mask mask, int64_t tokens) {
  std::vector<int> counts(static_cast<size_t>(tokens * tokens), 0);
  for (int q = 0; q < layout.ranks(); ++q) {
    const std::vector<int64_t> queries = layout.tokens(q);
    for (int k = 0; k < layout.ranks(); ++k) {
      const std::vector<int64_t> keys = layout.tokens(k);
      for (const AttentionSlice& s : layout.slices(q, k, mask)) {
        EXPECT_GT(s.pairs(), 0) << "an empty slice";
        for (int64_t i = 0; i < s.queries(); ++i) {
          for (int64_t j = s.first_visible(i); j < s.end_visible(i); ++j) {
            const int64_t query = queries.at(static_cast<size_t>(s.query_begin + i));
            const int64_t key = keys.at(static_cast<size_t>(s.key_begin + j));
            EXPECT_TRUE(query >= 0 && key >= 0) << "a slice touches padding";
            if (query >= 0 && key >= 0) ++counts[static_cast<size_t>(query * tokens + key)];
          }
        }
      }
    }
  }
  return counts;
}

TEST(SequenceLayout, SlicesOfAllRanksAreTheWholeMaskWithEachPairOnce) {
  for_all_layouts([](const SequenceLayout& layout, const Offsets& offsets) {
    const int64_t n = offsets.back();
    for (const Mask mask : {Mask::causal, Mask::full}) {
      std::vector<int> expected(static_cast<size_t>(n * n), 0);
      for (size_t d = 0; d + 1 < offsets.size(); ++d) {
        for (int64_t i = offsets[d]; i < offsets[d + 1]; ++i) {
          const int64_t end = mask == Mask::full ? offsets[d + 1] : i + 1;
          for (int64_t j = offsets[d]; j < end; ++j) expected[static_cast<size_t>(i * n + j)] = 1;
        }
      }
      EXPECT_EQ(pair_counts(layout, mask, n), expected);
      int64_t pairs = 0;
      for (int rank = 0; rank < layout.ranks(); ++rank) pairs += layout.pairs(rank, mask);
      EXPECT_EQ(pairs, std::accumulate(expected.begin(), expected.end(), int64_t{0}));
    }
  });
}

TEST(SequenceLayout, SaysFullWhereTheDiagonalReachesNoPair) {
  // Two ranks, zigzag: chunk 3 of rank 0 sees all of rank 1; rank 1 sees chunk 0 of rank 0.
  const SequenceLayout layout(LayoutKind::zigzag, Offsets{0, 16}, 2);
  EXPECT_EQ(layout.slices(1, 0, Mask::causal),
            (std::vector<AttentionSlice>{{0, 8, 0, 4, Mask::full, 0}}));
  EXPECT_EQ(layout.slices(0, 1, Mask::causal),
            (std::vector<AttentionSlice>{{4, 8, 0, 8, Mask::full, 0}}));
}

TEST(SequenceLayout, AZigzagStepIsOneSlice) {
  for (int ranks = 2; ranks <= 8; ++ranks) {
    const SequenceLayout layout(LayoutKind::zigzag, Offsets{0, 2 * 5 * ranks}, ranks);
    for (int q = 0; q < ranks; ++q) {
      for (int k = 0; k < ranks; ++k) {
        const auto slices = layout.slices(q, k, Mask::causal);
        const AttentionSlice expected = q == k  ? AttentionSlice{0, 10, 0, 10, Mask::causal, 0}
                                        : q > k ? AttentionSlice{0, 10, 0, 5, Mask::full, 0}
                                                : AttentionSlice{5, 10, 0, 10, Mask::full, 0};
        EXPECT_EQ(slices, std::vector<AttentionSlice>{expected}) << q << ", " << k;
      }
    }
  }
}

TEST(SequenceLayout, StripesHaveADiagonalForEveryPairOfRanks) {
  const SequenceLayout layout(LayoutKind::striped, Offsets{0, 16}, 2);
  EXPECT_EQ(layout.slices(1, 0, Mask::causal),
            (std::vector<AttentionSlice>{{0, 8, 0, 8, Mask::causal, 0}}));
  EXPECT_EQ(layout.slices(0, 1, Mask::causal),
            (std::vector<AttentionSlice>{{0, 8, 0, 8, Mask::causal, -1}}));
}

TEST(SequenceLayout, PadsEveryRankToTheMultiple) {
  for (const LayoutKind kind : kKinds) {
    const SequenceLayout layout(kind, Offsets{0, 42}, 4, 6);
    EXPECT_EQ(layout.tokens_per_rank(), 12) << name_of(kind);  // 42 / 4 is 10 and a half
    EXPECT_EQ(layout.tokens(3).size(), 12U);
  }
}

TEST(SequenceLayout, RefusesWhatIsNoLayout) {
  EXPECT_THROW(SequenceLayout(LayoutKind::zigzag, Offsets{}, 2), UsageError);
  EXPECT_THROW(SequenceLayout(LayoutKind::zigzag, Offsets{0, 4, 3}, 2), UsageError);
  EXPECT_THROW(SequenceLayout(LayoutKind::zigzag, Offsets{0, 4}, 0), UsageError);
}

struct Balance {
  double pairs;   ///< the most pairs of a rank over the mean
  double tokens;  ///< T over the mean
};

Balance balance(const SequenceLayout& layout, int64_t tokens) {
  int64_t most = 0;
  int64_t sum = 0;
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    const int64_t pairs = layout.pairs(rank, Mask::causal);
    most = std::max(most, pairs);
    sum += pairs;
  }
  const auto ranks = static_cast<double>(layout.ranks());
  return {static_cast<double>(most) * ranks / static_cast<double>(sum),
          static_cast<double>(layout.tokens_per_rank()) * ranks / static_cast<double>(tokens)};
}

TEST(SequenceLayout, ZigzagAndStripedShareTheWorkOf16KTokensWithinTwoPercent) {
  for (const int64_t tokens : {16384, 16381, 16385}) {
    for (const int ranks : {2, 4, 8}) {
      std::string line = concat("  S ", tokens, ", P ", ranks, ": most pairs of a rank / mean:");
      for (const LayoutKind kind : kKinds) {
        const SequenceLayout layout(kind, Offsets{0, tokens}, ranks);
        int64_t least = layout.pairs(0, Mask::causal);
        int64_t most = least;
        for (int rank = 1; rank < ranks; ++rank) {
          least = std::min(least, layout.pairs(rank, Mask::causal));
          most = std::max(most, layout.pairs(rank, Mask::causal));
        }
        if (kind != LayoutKind::contiguous) {
          EXPECT_LE(static_cast<double>(most), 1.02 * static_cast<double>(least)) << name_of(kind);
        }
        line += concat("  ", name_of(kind), " ", balance(layout, tokens).pairs);
      }
      std::puts(line.c_str());
    }
  }
}

/// Documents as a corpus has them: log-normal lengths, median 600, cut off at the micro-batch's
/// end.
Offsets corpus_documents(uint64_t seed, int64_t tokens) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> log_length(std::log(600.0), 1.2);
  Offsets offsets{0};
  while (offsets.back() < tokens) {
    const auto length = static_cast<int64_t>(std::exp(log_length(engine))) + 1;
    offsets.push_back(std::min(tokens, offsets.back() + length));
  }
  return offsets;
}

TEST(SequenceLayout, PackedDocumentsOfACorpusAreBalanced) {
  // What a document's 2P chunks differ by is one token each, of the order of 1 / (chunk) of its
  // work, and which rank gets it changes from document to document. At a median of 600 tokens that
  // leaves less than 1 %. T exceeds the mean by at most a document shorter than 2P.
  for (const int ranks : {2, 4, 8}) {
    for (const LayoutKind kind : kKinds) {
      Balance worst{0, 0};
      for (uint64_t seed = 0; seed < 20; ++seed) {
        const Offsets offsets = corpus_documents(seed, 16384);
        const Balance b = balance(SequenceLayout(kind, offsets, ranks), 16384);
        worst = {std::max(worst.pairs, b.pairs), std::max(worst.tokens, b.tokens)};
      }
      std::printf("  P %d, %-10s: most pairs / mean %.4f, T / mean %.4f (worst of 20 packings)\n",
                  ranks, name_of(kind).c_str(), worst.pairs, worst.tokens);
      if (kind == LayoutKind::contiguous) continue;
      EXPECT_LE(worst.pairs, 1.01) << name_of(kind) << ", " << ranks;
      EXPECT_LE(worst.tokens, 1 + 2.0 * ranks * ranks / 16384) << name_of(kind) << ", " << ranks;
    }
  }
}

TEST(SequenceLayout, ManyShortDocumentsAreDealtEvenly) {
  std::mt19937_64 random(3);
  std::vector<int64_t> lengths(5000);
  for (int64_t& n : lengths) n = 1 + static_cast<int64_t>(random() % 30);
  const Offsets offsets = offsets_of(lengths);
  for (const int ranks : {2, 4, 8}) {
    for (const LayoutKind kind : kKinds) {
      const Balance b = balance(SequenceLayout(kind, offsets, ranks), offsets.back());
      std::printf("  P %d, %-10s: most pairs / mean %.4f, T / mean %.4f\n", ranks,
                  name_of(kind).c_str(), b.pairs, b.tokens);
      // Whole documents, of which each rank has hundreds: even contiguous parts come out alike.
      EXPECT_LE(b.pairs, 1.05);
      EXPECT_LE(b.tokens, 1.01);
    }
  }
}

}  // namespace
}  // namespace ringbolt
