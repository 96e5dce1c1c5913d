// The mesh: which ranks share an axis.
#include "parallel/mesh.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "parallel/threads.h"

namespace ringbolt {
namespace {

/// The world's ranks of a communicator.
std::vector<int64_t> members(Communicator& axis, int world_rank) {
  std::vector<int64_t> all(static_cast<size_t>(axis.size()));
  const std::vector<int64_t> mine{world_rank};
  axis.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)));
  EXPECT_EQ(all[static_cast<size_t>(axis.rank())], world_rank);
  return all;
}

TEST(Mesh, NumbersItsAxesFromTheWorldsRank) {
  const MeshShape shape{.data = 2, .outer = 2, .inner = 3, .head = 2};
  run_thread_ranks(24, 60, [&](Communicator& world) {
    Mesh mesh(world, shape);
    const int r = world.rank();
    EXPECT_EQ((mesh.data_rank() * 6 + mesh.ring_rank()) * 2 + mesh.head_rank(), r);
    EXPECT_EQ(mesh.sequence().size(), 12);
    EXPECT_EQ(mesh.sequence().rank(), r % 12);
    EXPECT_EQ(mesh.ring().rank(), mesh.ring_rank());
    EXPECT_EQ(mesh.head().rank(), mesh.head_rank());
    EXPECT_EQ(mesh.outer().rank() * 3 + mesh.inner().rank(), mesh.ring_rank());

    const int first = r / 12 * 12;  // of this sequence
    EXPECT_EQ(members(mesh.head(), r), (std::vector<int64_t>{r / 2 * 2, r / 2 * 2 + 1}));
    std::vector<int64_t> ring, inner, outer;
    for (int i = 0; i < 6; ++i) {
      const int64_t member = first + i * 2 + mesh.head_rank();
      ring.push_back(member);
      if (i / 3 == mesh.ring_rank() / 3) inner.push_back(member);
      if (i % 3 == mesh.ring_rank() % 3) outer.push_back(member);
    }
    EXPECT_EQ(members(mesh.ring(), r), ring);
    EXPECT_EQ(members(mesh.inner(), r), inner);
    EXPECT_EQ(members(mesh.outer(), r), outer);
  });
}

TEST(Mesh, RefusesAShapeThatIsNotTheWorlds) {
  const auto world = make_single_communicator();
  EXPECT_NO_THROW(Mesh(*world, MeshShape{}));
  EXPECT_THROW(Mesh(*world, MeshShape{.data = 2}), UsageError);
  EXPECT_THROW(Mesh(*world, MeshShape{.data = 0}), UsageError);
}

}  // namespace
}  // namespace ringbolt
