#include "parallel/layout.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"

namespace ringbolt {
namespace {

using Mask = AttentionSlice::Mask;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t divide_down(int64_t a, int64_t b) { return a >= 0 ? a / b : -divide_up(-a, b); }

/// Gives segments to ranks, and knows how many tokens each has.
class Dealer {
 public:
  explicit Dealer(std::vector<std::vector<Segment>>& segments)
      : segments_(segments), held_(segments.size(), 0) {}

  int64_t held(size_t rank) const { return held_[rank]; }
  int64_t most() const { return *std::max_element(held_.begin(), held_.end()); }
  size_t emptiest() const {
    return static_cast<size_t>(std::min_element(held_.begin(), held_.end()) - held_.begin());
  }

  /// Behind what the rank holds. A stretch that continues the rank's last one becomes part of it:
  /// fewer slices.
  void give(size_t rank, int64_t document, int64_t first, int64_t count, int64_t stride) {
    if (count <= 0) return;
    std::vector<Segment>& mine = segments_[rank];
    if (!mine.empty() && mine.back().document == document &&
        mine.back().first + mine.back().count * stride == first) {
      mine.back().count += count;
    } else {
      mine.push_back({document, first, count, stride, held_[rank]});
    }
    held_[rank] += count;
  }

 private:
  std::vector<std::vector<Segment>>& segments_;
  std::vector<int64_t> held_;
};

/// Rank r holds [r T, (r + 1) T) of the buffer, T = ceil(S / P), cut where a document ends.
void deal_contiguous(std::span<const int64_t> offsets, size_t ranks, Dealer& dealer) {
  const int64_t part = std::max<int64_t>(
      1, divide_up(offsets.back() - offsets.front(), static_cast<int64_t>(ranks)));
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    for (int64_t begin = offsets[d]; begin < offsets[d + 1];) {
      const int64_t rank = (begin - offsets.front()) / part;
      const int64_t end = std::min(offsets[d + 1], offsets.front() + (rank + 1) * part);
      dealer.give(static_cast<size_t>(rank), static_cast<int64_t>(d), begin - offsets[d],
                  end - begin, 1);
      begin = end;
    }
  }
}

/// Token g of the buffer goes to rank g mod P, whichever document it is of.
void deal_striped(std::span<const int64_t> offsets, size_t ranks, Dealer& dealer) {
  const auto p = static_cast<int64_t>(ranks);
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    const int64_t length = offsets[d + 1] - offsets[d];
    const int64_t owner = (offsets[d] - offsets.front()) % p;  // of the document's first token
    for (int64_t i = 0; i < std::min(p, length); ++i) {
      dealer.give(static_cast<size_t>((owner + i) % p), static_cast<int64_t>(d), i,
                  divide_up(length - i, p), p);
    }
  }
}

/// Sizes of a document's 2P chunks. What does not divide goes, a token a time, to the ranks that
/// hold least: each gets one before any gets two, alternately for its later and its earlier chunk.
std::vector<int64_t> zigzag_chunks(int64_t length, size_t ranks, const Dealer& dealer,
                                   bool later_first) {
  std::vector<int64_t> sizes(2 * ranks, length / static_cast<int64_t>(2 * ranks));
  std::vector<size_t> order(ranks);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return dealer.held(a) < dealer.held(b); });
  const auto left = static_cast<size_t>(length % static_cast<int64_t>(2 * ranks));
  for (size_t i = 0; i < left; ++i) {
    const size_t rank = order[i % ranks];
    const bool later = later_first != (i >= ranks);
    ++sizes[later ? 2 * ranks - 1 - rank : rank];
  }
  return sizes;
}

/// Rank r holds chunks r and 2P - 1 - r of each document; a document with fewer tokens than chunks
/// goes whole to the rank that holds least.
void deal_zigzag(std::span<const int64_t> offsets, size_t ranks, Dealer& dealer) {
  bool later_first = true;
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    const int64_t length = offsets[d + 1] - offsets[d];
    if (length < static_cast<int64_t>(2 * ranks)) {
      dealer.give(dealer.emptiest(), static_cast<int64_t>(d), 0, length, 1);
      continue;
    }
    const std::vector<int64_t> sizes = zigzag_chunks(length, ranks, dealer, later_first);
    int64_t first = 0;
    for (size_t chunk = 0; chunk < sizes.size(); first += sizes[chunk], ++chunk) {
      const size_t rank = std::min(chunk, 2 * ranks - 1 - chunk);
      dealer.give(rank, static_cast<int64_t>(d), first, sizes[chunk], 1);
    }
    later_first = !later_first;
  }
}

/// The visible pairs of two segments of one document and stride. Key kf + j st is at or before
/// query qf + i st iff j <= i + floor((qf - kf) / st). No pair: an empty slice.
AttentionSlice slice_between(const Segment& query, const Segment& key, Mask mask) {
  AttentionSlice slice{
      query.local, query.local + query.count, key.local, key.local + key.count, Mask::full, 0};
  if (mask == Mask::full) return slice;
  const int64_t diagonal = divide_down(query.first - key.first, query.stride);
  if (diagonal >= key.count - 1) return slice;
  if (query.count + diagonal <= 0) return {};
  slice.mask = Mask::causal;
  slice.diagonal = diagonal;
  return slice;
}

void check_offsets(std::span<const int64_t> offsets, int ranks, int64_t multiple) {
  if (ranks >= 1 && multiple >= 1 && !offsets.empty() &&
      std::is_sorted(offsets.begin(), offsets.end()))
    return;
  throw UsageError(message("a sequence cannot be laid out",
                           "offsets must ascend, ranks and multiple be positive",
                           "This is a defect of Ringbolt."));
}

}  // namespace

std::string name_of(LayoutKind kind) {
  switch (kind) {
    case LayoutKind::contiguous:
      return "contiguous";
    case LayoutKind::zigzag:
      return "zigzag";
    case LayoutKind::striped:
      return "striped";
  }
  return "?";
}

SequenceLayout::SequenceLayout(LayoutKind kind, std::span<const int64_t> offsets, int ranks,
                               int64_t multiple)
    : kind_(kind), offsets_(offsets.begin(), offsets.end()) {
  check_offsets(offsets, ranks, multiple);
  const auto n = static_cast<size_t>(ranks);
  segments_.resize(n);
  Dealer dealer(segments_);
  switch (kind) {
    case LayoutKind::contiguous:
      deal_contiguous(offsets, n, dealer);
      break;
    case LayoutKind::zigzag:
      deal_zigzag(offsets, n, dealer);
      break;
    case LayoutKind::striped:
      deal_striped(offsets, n, dealer);
      break;
  }
  tokens_per_rank_ = divide_up(dealer.most(), multiple) * multiple;
}

std::span<const Segment> SequenceLayout::segments(int rank) const {
  return segments_[static_cast<size_t>(rank)];
}

std::vector<int64_t> SequenceLayout::tokens(int rank) const {
  std::vector<int64_t> result(static_cast<size_t>(tokens_per_rank_), -1);
  for (const Segment& s : segments(rank)) {
    const int64_t begin = offsets_[static_cast<size_t>(s.document)] + s.first;
    for (int64_t i = 0; i < s.count; ++i)
      result[static_cast<size_t>(s.local + i)] = begin + i * s.stride;
  }
  return result;
}

std::vector<int64_t> SequenceLayout::positions(int rank) const {
  std::vector<int64_t> result(static_cast<size_t>(tokens_per_rank_), 0);
  for (const Segment& s : segments(rank)) {
    for (int64_t i = 0; i < s.count; ++i)
      result[static_cast<size_t>(s.local + i)] = s.first + i * s.stride;
  }
  return result;
}

std::vector<AttentionSlice> SequenceLayout::slices(int query_rank, int key_rank, Mask mask,
                                                   const Visibility& visibility) const {
  std::vector<AttentionSlice> result;
  const std::span<const Segment> keys = segments(key_rank);
  size_t first = 0;  // of the keys that belong to the query segment's document
  for (const Segment& query : segments(query_rank)) {
    while (first < keys.size() && keys[first].document < query.document) ++first;
    for (size_t k = first; k < keys.size() && keys[k].document == query.document; ++k) {
      if (!visibility.is_causal()) {
        append_slices({query.local, query.count, query.first, query.stride},
                      {keys[k].local, keys[k].count, keys[k].first, keys[k].stride}, visibility,
                      result);
        continue;
      }
      const AttentionSlice slice = slice_between(query, keys[k], mask);
      if (slice.queries() > 0) result.push_back(slice);
    }
  }
  return joined(result);
}

int64_t SequenceLayout::pairs(int query_rank, Mask mask) const {
  int64_t total = 0;
  for (int key_rank = 0; key_rank < ranks(); ++key_rank)
    total += attention_pairs(slices(query_rank, key_rank, mask));
  return total;
}

}  // namespace ringbolt
