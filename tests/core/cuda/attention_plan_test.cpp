// Every query-key pair of a list of slices belongs to exactly one piece, and cuDNN is given only
// what it does right.
#include "core/cuda/attention_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <tuple>
#include <vector>

namespace ringbolt::cuda {
namespace {

using Mask = AttentionSlice::Mask;
using Slices = std::vector<AttentionSlice>;

/// How often each pair of a T x Tk rectangle is computed.
class Pairs {
 public:
  Pairs(int64_t queries, int64_t keys)
      : keys_(keys), count_(static_cast<size_t>(queries * keys), 0) {}

  void add(const AttentionSlice& s) {
    for (int64_t i = 0; i < s.queries(); ++i) {
      for (int64_t j = s.first_visible(i); j < s.end_visible(i); ++j)
        hit(s.query_begin + i, s.key_begin + j);
    }
  }
  void add(const AttentionPiece& p) {
    for (int64_t b = 0; b < p.batch; ++b) {
      for (int64_t i = 0; i < p.queries; ++i) {
        for (int64_t j = 0; j < (p.causal ? i + 1 : p.keys); ++j) {
          hit(p.query_begin + b * p.query_step + i, p.key_begin + b * p.key_step + j);
        }
      }
    }
  }
  friend bool operator==(const Pairs&, const Pairs&) = default;

 private:
  void hit(int64_t i, int64_t j) { ++count_.at(static_cast<size_t>(i * keys_ + j)); }

  int64_t keys_;
  std::vector<int> count_;
};

constexpr AttentionTraits kHopper{DType::bf16, 128, 90, true};

/// Pieces and work alike cover what the slices say.
void expect_covered(const Slices& slices, int64_t queries, int64_t keys) {
  Pairs wanted(queries, keys);
  for (const AttentionSlice& s : slices) wanted.add(s);
  Pairs pieces(queries, keys);
  for (const AttentionPiece& p : attention_pieces(slices)) {
    EXPECT_TRUE(!p.causal || p.queries == p.keys);
    EXPECT_GT(p.queries * p.keys, 0) << "no empty piece";
    pieces.add(p);
  }
  EXPECT_TRUE(pieces == wanted);
  for (const Direction direction : {Direction::forward, Direction::backward}) {
    Pairs work(queries, keys);
    for (const AttentionWork& w : attention_work(slices, direction, kHopper)) work.add(w.piece);
    EXPECT_TRUE(work == wanted);
  }
}

TEST(AttentionPieces, CoverEveryKindOfSliceOnce) {
  for (const int64_t queries : {1, 2, 5, 9}) {
    for (const int64_t keys : {1, 2, 5, 12}) {
      expect_covered({{0, queries, 0, keys, Mask::full, 0}}, queries, keys);
      for (int64_t diagonal = -queries - 1; diagonal <= keys + 1; ++diagonal) {
        SCOPED_TRACE(testing::Message() << queries << " x " << keys << ", diagonal " << diagonal);
        expect_covered({{0, queries, 0, keys, Mask::causal, diagonal}}, queries, keys);
      }
    }
  }
}

TEST(AttentionPieces, CoverRandomListsOnce) {
  std::mt19937 engine(1);
  const auto random = [&](int64_t below) {
    return static_cast<int64_t>(engine() % static_cast<uint64_t>(below));
  };
  for (int round = 0; round < 300; ++round) {
    Slices slices;
    for (int64_t n = random(6); n >= 0; --n) {
      const int64_t q = random(20), k = random(20);
      slices.push_back({q, q + random(21 - q), k, k + random(21 - k),
                        random(2) == 0 ? Mask::full : Mask::causal, random(30) - 15});
      if (random(3) == 0) slices.back().left_diagonal = random(30) - 20;
    }
    expect_covered(slices, 20, 20);
  }
}

TEST(AttentionPieces, JoinSequencesOfOneLengthIntoABatch) {
  const std::vector<int64_t> offsets{0, 256, 512, 768, 1024};
  const auto pieces = attention_pieces(causal_slices(offsets));
  ASSERT_EQ(pieces.size(), 1U);
  EXPECT_EQ(pieces[0], (AttentionPiece{0, 256, 0, 256, true, 4, 256, 256}));
  expect_covered(causal_slices(offsets), 1024, 1024);
  const std::vector<int64_t> uneven{0, 3, 6, 10, 14, 17};
  EXPECT_EQ(attention_pieces(causal_slices(uneven)).size(), 3U);
  expect_covered(causal_slices(uneven), 17, 17);
}

TEST(AttentionPieces, DoNotJoinWhatSharesRowsOrKeys) {
  const Slices same_rows = {{0, 128, 0, 128, Mask::full, 0}, {0, 128, 128, 256, Mask::full, 0}};
  EXPECT_EQ(attention_pieces(same_rows).size(), 2U) << "one launch must not write a row twice";
  const Slices same_keys = {{0, 128, 0, 128, Mask::full, 0}, {128, 256, 0, 128, Mask::full, 0}};
  EXPECT_EQ(attention_pieces(same_keys).size(), 2U);
  EXPECT_FALSE(rows_are_disjoint(attention_work(same_rows, Direction::forward, kHopper)));
  EXPECT_TRUE(rows_are_disjoint(attention_work(same_keys, Direction::forward, kHopper)));
}

AttentionWork only(const Slices& slices, Direction direction, AttentionTraits traits = kHopper) {
  const auto work = attention_work(slices, direction, traits);
  EXPECT_EQ(work.size(), 1U);
  return work.front();
}

TEST(AttentionWork, GivesCudnnOnlyLengthsThatAreMultiplesOf128) {
  for (const Direction direction : {Direction::forward, Direction::backward}) {
    for (int64_t n = 64; n < 5000; n += 37) {
      const AttentionWork w = only({{0, n, 0, n, Mask::causal, 0}}, direction);
      ASSERT_EQ(w.engine, Engine::cudnn) << n;
      EXPECT_EQ(w.graph_keys % 128, 0);
      EXPECT_EQ(w.graph_queries, w.graph_keys);
      EXPECT_GE(w.graph_keys, n);
      EXPECT_EQ(w.padded, n % 128 != 0) << "exact lengths are used in place";
    }
    EXPECT_FALSE(only({{0, 16384, 0, 16384, Mask::causal, 0}}, direction).padded);
  }
}

TEST(AttentionWork, PadsToFewLengthsAndNotFar) {
  std::set<int64_t> lengths;
  for (int64_t n = 1; n <= 131072; ++n) {
    const int64_t padded = padded_length(n);
    ASSERT_GE(padded, n);
    ASSERT_LE(padded, std::max<int64_t>(n + 127, n * 5 / 4 + 128));
    lengths.insert(padded);
  }
  EXPECT_LE(lengths.size(), 50U) << "plans to compile for all lengths up to 128K";
}

TEST(AttentionWork, KeepsTinyBackwardsFromCudnn) {
  for (const int64_t n : {1, 2, 16, 63}) {
    EXPECT_EQ(only({{0, n, 0, 4096, Mask::full, 0}}, Direction::backward).engine, Engine::own) << n;
    EXPECT_EQ(only({{0, 4096, 0, n, Mask::full, 0}}, Direction::backward).engine, Engine::own) << n;
  }
  EXPECT_TRUE(attention_work(Slices{{5, 5, 0, 100, Mask::full, 0}, {0, 100, 7, 7, Mask::full, 0}},
                             Direction::backward, kHopper)
                  .empty())
      << "nothing is done for no rows or no keys";
}

TEST(AttentionWork, KeepsTypesShapesAndDevicesFromCudnnThatItDoesNotTake) {
  const Slices square = {{0, 256, 0, 256, Mask::causal, 0}};
  const auto engine = [&](Direction direction, AttentionTraits traits) {
    return only(square, direction, traits).engine;
  };
  EXPECT_EQ(engine(Direction::forward, {DType::f32, 128, 90, true}), Engine::own);
  EXPECT_EQ(engine(Direction::forward, {DType::bf16, 10, 90, true}), Engine::own);
  EXPECT_EQ(engine(Direction::forward, {DType::bf16, 128, 75, true}), Engine::own);
  EXPECT_EQ(engine(Direction::forward, {DType::bf16, 128, 90, false}), Engine::own);
  EXPECT_EQ(engine(Direction::forward, {DType::bf16, 256, 80, true}), Engine::cudnn);
  EXPECT_EQ(engine(Direction::backward, {DType::bf16, 256, 90, true}), Engine::cudnn);
  EXPECT_EQ(engine(Direction::backward, {DType::bf16, 256, 80, true}), Engine::own);
  EXPECT_EQ(engine(Direction::backward, {DType::bf16, 256, 100, true}), Engine::own);
}

TEST(AttentionWork, GivesFp8ToCudnnWhereItHasIt) {
  const auto engine = [&](int64_t n, int64_t head_dim, int arch, bool aligned = true) {
    const Slices square = {{0, n, 0, n, Mask::causal, 0}};
    return only(square, Direction::forward, {DType::e4m3, head_dim, arch, aligned}).engine;
  };
  EXPECT_EQ(engine(1000, 128, 90), Engine::cudnn);
  EXPECT_EQ(engine(1000, 256, 90), Engine::cudnn);
  EXPECT_EQ(engine(1000, 128, 100), Engine::cudnn);
  EXPECT_EQ(engine(1000, 256, 100), Engine::own);
  EXPECT_EQ(engine(1000, 72, 90), Engine::own) << "no multiple of 16";
  EXPECT_EQ(engine(1000, 8, 90), Engine::own);
  EXPECT_EQ(engine(1000, 128, 80), Engine::own);
  EXPECT_EQ(engine(1000, 128, 90, false), Engine::own);
  EXPECT_EQ(engine(7, 128, 90), Engine::own);
  const Slices decoding = {{0, 1, 0, 131072, Mask::full}};
  EXPECT_EQ(only(decoding, Direction::forward, {DType::e4m3, 128, 90, true}).engine, Engine::own);
  EXPECT_EQ(only(decoding, Direction::forward, {DType::e4m3, 128, 100, true}).engine,
            Engine::cudnn);
}

bool sees(const AttentionPiece& p, int64_t i, int64_t j) {
  i -= p.query_begin;
  j -= p.key_begin;
  return 0 <= i && i < p.queries && 0 <= j && j < (p.causal ? i + 1 : p.keys);
}

TEST(AttentionWork, GivesHopperFewKeysOfFp8AtATime) {
  const AttentionTraits hopper{DType::e4m3, 128, 90, true};
  std::mt19937_64 engine(1);
  for (const int64_t n : {8192, 8193, 16384, 20011, 24576, 100003, 1048576}) {
    for (const auto mask : {Mask::causal, Mask::full}) {
      SCOPED_TRACE(testing::Message() << n << (mask == Mask::causal ? ", causal" : ", full"));
      const Slices whole{{0, n, 0, n, mask, 0}};
      const auto work = attention_work(whole, Direction::forward, hopper);
      EXPECT_EQ(rows_are_disjoint(work), n <= kHopperE4m3Keys);
      int64_t pairs = 0;
      std::set<std::tuple<int64_t, int64_t, bool>> plans;
      for (const AttentionWork& w : work) {
        const AttentionPiece& p = w.piece;
        EXPECT_LE(p.keys, kHopperE4m3Keys);
        pairs += p.causal ? p.keys * (p.keys + 1) / 2 : p.queries * p.keys;
        if (w.engine == Engine::cudnn) plans.insert({w.graph_queries, w.graph_keys, p.causal});
      }
      EXPECT_EQ(pairs, mask == Mask::causal ? n * (n + 1) / 2 : n * n);
      EXPECT_LE(plans.size(), 24U) << "plans to compile";
      for (int sample = 0; sample < 300; ++sample) {
        const auto i = static_cast<int64_t>(engine() % static_cast<uint64_t>(n));
        const auto j = static_cast<int64_t>(engine() % static_cast<uint64_t>(n));
        const auto found = std::count_if(
            work.begin(), work.end(), [&](const AttentionWork& w) { return sees(w.piece, i, j); });
        ASSERT_EQ(found, mask == Mask::full || j <= i ? 1 : 0) << i << ", " << j;
      }
    }
  }
  const auto sequences = attention_work(causal_slices(std::vector<int64_t>{0, 16384, 32768}),
                                        Direction::forward, hopper);
  EXPECT_EQ(sequences.size(), 3U) << "sequences stay a batch";
  for (const AttentionWork& w : sequences) EXPECT_EQ(w.piece.batch, 2);
  EXPECT_EQ(only({{0, 16384, 0, 16384, Mask::causal, 0}}, Direction::forward,
                 {DType::e4m3, 128, 100, true})
                .piece.keys,
            16384)
      << "Blackwell sums in f32";
}

TEST(Fp8Attention, IsRefusedInOneLineWhereADeviceLacksIt) {
  const std::string ampere = why_no_e4m3_attention(80, E4m3Output::rounded);
  EXPECT_NE(ampere.find("it needs compute capability 9.0 or more, and this has 8.0"),
            std::string::npos)
      << ampere;
  EXPECT_FALSE(why_no_e4m3_attention(80, E4m3Output::wide).empty());
  const std::string hopper = why_no_e4m3_attention(90, E4m3Output::wide);
  EXPECT_NE(hopper.find("Try --attention-dtype fp8-output."), std::string::npos) << hopper;
  EXPECT_EQ(hopper.find('\n'), std::string::npos);
  EXPECT_EQ(why_no_e4m3_attention(90, E4m3Output::rounded), "");
  EXPECT_EQ(why_no_e4m3_attention(100, E4m3Output::wide), "");
  EXPECT_EQ(why_no_e4m3_attention(103, E4m3Output::rounded), "");
}

TEST(AttentionWork, DecodesWithoutAMaskByFewPlans) {
  std::set<int64_t> lengths;
  for (int64_t keys = 1; keys <= 131072; keys += 7) {
    const auto work = attention_work(Slices{{0, 1, 0, keys, Mask::causal, keys - 1}},
                                     Direction::forward, kHopper);
    int64_t covered = 0;
    for (const AttentionWork& w : work) {
      EXPECT_FALSE(w.piece.causal);
      EXPECT_FALSE(w.padded) << "a cache is not copied";
      EXPECT_EQ(w.piece.key_begin, covered);
      covered += w.piece.keys;
      if (w.engine != Engine::cudnn) continue;
      EXPECT_EQ(w.graph_keys % 128, 0);
      lengths.insert(w.graph_keys);
    }
    ASSERT_EQ(covered, keys);
  }
  EXPECT_LE(lengths.size(), 24U);
}

TEST(AttentionWork, CutsTheKeysOfFewQueriesForTheWholeDevice) {
  EXPECT_EQ(key_chunks({0, 1, 0, 100, false}, 32, 8, 132), 1);
  EXPECT_GT(key_chunks({0, 1, 0, 4000, false}, 8, 8, 132), 8);
  EXPECT_EQ(key_chunks({0, 4096, 0, 4096, true}, 32, 32, 132), 1);
  // Heads of a group share blocks: as many chunks for 4 of them as for one.
  const AttentionPiece many{0, 1, 0, 1 << 20, false};
  EXPECT_EQ(key_chunks(many, 32, 8, 132), key_chunks(many, 8, 8, 132));
  EXPECT_LT(key_chunks(many, 64, 8, 132), key_chunks(many, 32, 8, 132));
}

TEST(CudnnVersions, WithKnownWrongResultsAreRefused) {
  for (const int64_t bad : {91000, 91001, 91400, 90700, 8907, 100000})
    EXPECT_FALSE(cudnn_is_usable(bad)) << bad;
  for (const int64_t good : {91002, 91800, 91900, 92600})
    EXPECT_TRUE(cudnn_is_usable(good)) << good;
  EXPECT_TRUE(workspace_must_be_zeroed(91700));
  EXPECT_FALSE(workspace_must_be_zeroed(91800));
}

}  // namespace
}  // namespace ringbolt::cuda
