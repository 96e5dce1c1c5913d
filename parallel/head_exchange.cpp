#include "parallel/head_exchange.h"

#include <algorithm>
#include <string>

#include "core/base/error.h"
#include "parallel/ring.h"

namespace ringbolt {
namespace {

bool divides(int64_t heads, int64_t kv_heads, int64_t ranks) {
  return heads % ranks == 0 && (kv_heads % ranks == 0 || ranks % kv_heads == 0);
}

}  // namespace

void check_head_ranks(int64_t heads, int64_t kv_heads, int head_ranks) {
  if (head_ranks >= 1 && divides(heads, kv_heads, head_ranks)) return;
  std::string works;
  for (int64_t ranks = 1; ranks <= heads; ++ranks) {
    if (divides(heads, kv_heads, ranks)) works += concat(works.empty() ? "" : ", ", ranks);
  }
  throw UsageError(message(
      concat("attention cannot be divided among ", head_ranks, " head ranks"),
      concat("the model has ", heads, " query heads and ", kv_heads,
             " key/value heads; the ranks must divide the first and divide, or be a multiple of, "
             "the second"),
      concat("Head ranks that work: ", works, ".")));
}

HeadExchange::HeadExchange(Backend& backend, Communicator& head, int64_t heads, int64_t kv_heads)
    : backend_(backend), head_(head) {
  const int ranks = head.size();
  check_head_ranks(heads, kv_heads, ranks);
  heads_ = heads / ranks;
  kv_heads_ = std::max<int64_t>(1, kv_heads / ranks);
  replicas_ = std::max(1, ranks / static_cast<int>(std::min<int64_t>(kv_heads, ranks)));
}

Tensor HeadExchange::traded(ConstView contiguous) {
  Tensor received = backend_.allocate(contiguous.dtype(), contiguous.shape());
  head_.all_to_all(bytes_of(contiguous), bytes_of(received.view()));
  return received;
}

template <class Body>
void HeadExchange::for_key_columns(int rank, int64_t all_kv_heads, const Body& body) const {
  body(first_kv_head(rank), int64_t{0});                // keys
  body(all_kv_heads + first_kv_head(rank), kv_heads_);  // values
}

Tensor HeadExchange::queries_in(ConstView x) {
  const int64_t rows = x.rows();
  const int64_t ranks = head_.size();
  Shape shape =
      x.shape().rank() == 2 ? Shape{ranks * rows, heads_} : Shape{ranks * rows, heads_, x.dim(2)};
  Tensor pieces = backend_.allocate(x.dtype(), shape);
  for (int64_t rank = 0; rank < ranks; ++rank) {
    backend_.convert(x.slice_columns(rank * heads_, (rank + 1) * heads_),
                     pieces.view().slice_rows(rank * rows, (rank + 1) * rows));
  }
  return traded(pieces);
}

Tensor HeadExchange::keys_in(ConstView kv) {
  const int64_t rows = kv.rows();
  Tensor pieces = backend_.allocate(kv.dtype(), {head_.size() * rows, 2 * kv_heads_, kv.dim(2)});
  for (int rank = 0; rank < head_.size(); ++rank) {
    const View piece = pieces.view().slice_rows(rank * rows, (rank + 1) * rows);
    for_key_columns(rank, kv.dim(1) / 2, [&](int64_t from, int64_t to) {
      backend_.convert(kv.slice_columns(from, from + kv_heads_),
                       piece.slice_columns(to, to + kv_heads_));
    });
  }
  return traded(pieces);
}

void HeadExchange::queries_out(ConstView y, View x) {
  const Tensor received = traded(y);
  const int64_t rows = x.rows();
  for (int64_t rank = 0; rank < head_.size(); ++rank) {
    backend_.convert(received.view().slice_rows(rank * rows, (rank + 1) * rows),
                     x.slice_columns(rank * heads_, (rank + 1) * heads_));
  }
}

void HeadExchange::keys_out(ConstView dkv, View x) {
  // Where nothing is added, the one rounding can come first and the message be the shorter one.
  const bool round_first = !replicates() && x.dtype() != DType::f32;
  Tensor rounded = round_first ? backend_.allocate(x.dtype(), dkv.shape()) : Tensor();
  if (round_first) backend_.convert(dkv, rounded);
  const Tensor received = traded(round_first ? ConstView(rounded) : dkv);
  const int64_t rows = x.rows();
  const bool add_apart = replicates() && x.dtype() != DType::f32;
  Tensor sums = add_apart ? backend_.allocate(DType::f32, x.shape()) : Tensor();
  const View result = add_apart ? sums.view() : x;
  for (int rank = 0; rank < head_.size(); ++rank) {
    const ConstView piece = received.view().slice_rows(rank * rows, (rank + 1) * rows);
    for_key_columns(rank, x.dim(1) / 2, [&](int64_t to, int64_t from) {
      const ConstView share = piece.slice_columns(from, from + kv_heads_);
      const View place = result.slice_columns(to, to + kv_heads_);
      if (rank % replicas_ == 0) {
        backend_.convert(share, place);
      } else {
        backend_.add(share, place);
      }
    });
  }
  if (add_apart) backend_.convert(result, x);
}

}  // namespace ringbolt
