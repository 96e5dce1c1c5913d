// Ranks as processes whose tensors lie on a device with streams of its own: messages are staged
// through host memory, in pieces.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "core/base/error.h"
#include "parallel/staged_exchange.h"
#include "tests/parallel/attention_case.h"
#include "tests/parallel/conformance.h"
#include "tests/parallel/over_device.h"
#include "tests/parallel/rank_device.h"
#include "tests/parallel/training_on_ranks.h"
#include "tests/support/ranks_main.h"

namespace ringbolt::testing_support {
namespace {

using test::world;

/// One kind a process, a GPU where CUDA is built: its staging buffers keep the marks of one kind.
std::vector<DeviceKind> kind_of_process() { return {device_kinds().back()}; }

using PromiseCase = std::tuple<DeviceKind, test::Promise>;

class DeviceMpi : public testing::TestWithParam<PromiseCase> {};

TEST_P(DeviceMpi, Keeps) {
  const auto& [kind, promise] = GetParam();
  if (const std::string why = kind.why_not(); !why.empty()) GTEST_SKIP() << why;
  const RankDevice device = kind.make(static_cast<uint64_t>(world().rank()));
  const std::unique_ptr<Backend> backend = device.backend();
  test::OverDevice over(device.tensors(world(), *backend), *backend);
  promise.check(over);
}

std::string promise_name(const testing::TestParamInfo<PromiseCase>& info) {
  return concat(std::get<0>(info.param).name, "_", std::get<1>(info.param).name);
}

INSTANTIATE_TEST_SUITE_P(AllPromises, DeviceMpi,
                         testing::Combine(testing::ValuesIn(kind_of_process()),
                                          testing::ValuesIn(test::promises())),
                         promise_name);

class OnDeviceByMpi : public testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (const std::string why = GetParam().why_not(); !why.empty()) GTEST_SKIP() << why;
    if (GetParam().name == "emulated")
      GTEST_SKIP()
          << "Whole models take minutes on the emulated device (device_ranks_test has them).";
  }
  RankDevice device(uint64_t seed) const {
    return GetParam().make(seed * 8 + static_cast<uint64_t>(world().rank()));
  }
};

std::vector<int32_t> numbers(int rank, int use, size_t n) {
  std::vector<int32_t> values(n);
  for (size_t i = 0; i < n; ++i)
    values[i] = (rank + 1) * 100'000'007 + use * 10'007 + static_cast<int32_t>(i);
  return values;
}

/// Three exchanges at once, of which two share tag and peers: of some pieces and a part, of a piece
/// exactly, of one value.
TEST_P(OnDeviceByMpi, MessagesOfManyPiecesArriveWholeAndInOrder) {
  const RankDevice where = device(1);
  const std::unique_ptr<Backend> backend = where.backend();
  const std::unique_ptr<Communicator> ranks = where.tensors(world(), *backend);
  const int to = (ranks->rank() + 1) % ranks->size();
  const int from = (ranks->rank() + ranks->size() - 1) % ranks->size();
  constexpr size_t kPiece = StagingArea::kPieceBytes / sizeof(int32_t);
  const std::array<size_t, 3> sizes{3 * kPiece + 12345, kPiece, 1};
  const std::array<Tag, 3> tags{Tag::ring_operand, Tag::ring_operand, Tag::ring_sum};
  std::vector<test::DeviceBytes> sent, received;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const std::vector<int32_t> values = numbers(ranks->rank(), static_cast<int>(i), sizes[i]);
    sent.emplace_back(*backend, std::as_bytes(std::span(values)));
    received.emplace_back(*backend, values.size() * sizeof(int32_t));
  }
  std::vector<Request> requests;
  for (size_t i = 0; i < sizes.size(); ++i) {
    requests.push_back(ranks->send_receive(sent[i].span(), to, received[i].span(), from, tags[i]));
  }
  for (size_t i = sizes.size(); i-- > 0;) requests[i].wait();
  for (size_t i = 0; i < sizes.size(); ++i) {
    std::vector<int32_t> arrived(sizes[i]);
    received[i].read(std::as_writable_bytes(std::span(arrived)));
    EXPECT_TRUE(arrived == numbers(from, static_cast<int>(i), sizes[i])) << "message " << i;
  }
}

TEST_P(OnDeviceByMpi, AttentionMatchesTheWholeSequenceInEveryWay) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const WholeProblem problem =
        random_problem({0, 17, 18, 61}, AttentionSlice::Mask::causal, {8, 2, 8}, dtype, 1);
    const Outcome outcome =
        expect_every_way(world(), "documents", problem, attention_bound(dtype), 0, device(2));
    if (world().rank() == 0) {
      EXPECT_GT(outcome.cases, 0);
      std::printf("  P %d, %s: worst of %lld: %.2e\n", world().size(), name_of(dtype).c_str(),
                  static_cast<long long>(outcome.cases), outcome.worst.worst());
    }
  }
}

TEST_P(OnDeviceByMpi, TenTrainingStepsAreThoseOfOneRank) {
  const TrainingCase c{.config = untied_model()};
  const RankedCase ranked{.mesh = {.inner = world().size()}};
  const Trained mine = train_on_ranks(world(), c, ranked, device(3));
  // The bounds are those of tests/parallel/training_test.cpp.
  const std::string apart = expect_same_training(mine, train_alone(c, device(4)), 3e-7, 5e-5);
  if (world().rank() == 0) std::printf("%s", apart.c_str());
}

std::string kind_name(const testing::TestParamInfo<DeviceKind>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Devices, OnDeviceByMpi, testing::ValuesIn(kind_of_process()), kind_name);

}  // namespace
}  // namespace ringbolt::testing_support
