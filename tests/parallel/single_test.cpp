// The communicator of one rank: what the other communicators do for a ring of one.
#include <algorithm>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "parallel/communicator.h"

namespace ringbolt {
namespace {

std::vector<float> counting(size_t n) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), 1.0F);
  return values;
}

TEST(SingleCommunicator, IsARingOfOne) {
  const auto single = make_single_communicator();
  EXPECT_EQ(single->rank(), 0);
  EXPECT_EQ(single->size(), 1);
  EXPECT_EQ(single->split(3, 0)->size(), 1);
  EXPECT_NO_THROW(single->barrier());
}

TEST(SingleCommunicator, ReceivesWhatItSentToItself) {
  const auto single = make_single_communicator();
  const std::vector<float> sent = counting(7);
  std::vector<float> received(7);
  single
      ->send_receive(std::as_bytes(std::span(sent)), 0, std::as_writable_bytes(std::span(received)),
                     0, Tag::ring_operand)
      .wait();
  EXPECT_EQ(received, sent);
}

TEST(SingleCommunicator, CollectivesLeaveOnesOwnPiece) {
  const auto single = make_single_communicator();
  const std::vector<float> mine = counting(5);
  std::vector<float> sum = mine, gathered(5), scattered(5), exchanged(5), broadcast = mine;
  single->all_reduce(std::span(sum));
  single->all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(gathered)));
  single->reduce_scatter(mine, scattered);
  single->all_to_all(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(exchanged)));
  single->broadcast(std::as_writable_bytes(std::span(broadcast)), 0);
  for (const auto& result : {sum, gathered, scattered, exchanged, broadcast})
    EXPECT_EQ(result, mine);
}

TEST(SingleCommunicator, RefusesSidesOfDifferentSize) {
  const auto single = make_single_communicator();
  const std::vector<float> mine = counting(5);
  std::vector<float> smaller(4);
  EXPECT_THROW(single->reduce_scatter(mine, smaller), CommError);
}

/// Counts in `finished` how often it was waited for.
struct CountedPending final : Request::Pending {
  CountedPending(int& count, int by) : finished(count), step(by) {}
  bool test() override { return false; }
  void wait() override { finished += step; }
  int& finished;
  int step;
};

TEST(Request, FinishesOnceWhenWaitedForMovedOrDropped) {
  int finished = 0;
  const auto pending = [&](int by) {
    return Request(std::make_unique<CountedPending>(finished, by));
  };
  {
    Request first = pending(1);
    Request second = std::move(first);
    EXPECT_EQ(finished, 0);
    EXPECT_FALSE(second.test());
    second.wait();
    second.wait();
    EXPECT_TRUE(second.test());
    EXPECT_EQ(finished, 1);
    Request third = pending(1);
    third = pending(10);
    EXPECT_EQ(finished, 2) << "what is overwritten is waited for";
  }
  EXPECT_EQ(finished, 12);
}

struct FailingPending final : Request::Pending {
  bool test() override { return false; }
  void wait() override { throw CommError("the other rank is gone"); }
};

TEST(Request, ThrowsFromWaitButNotWhenDropped) {
  Request waited(std::make_unique<FailingPending>());
  EXPECT_THROW(waited.wait(), CommError);
  EXPECT_NO_THROW({ const Request dropped(std::make_unique<FailingPending>()); });
}

}  // namespace
}  // namespace ringbolt
