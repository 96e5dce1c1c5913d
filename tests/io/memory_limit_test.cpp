#include "io/memory_limit.h"

#include <gtest/gtest.h>

#include "tests/io/files.h"

namespace ringbolt {
namespace {

/// A system's files as far as they tell of control groups.
class MemoryLimit : public ::testing::Test {
 protected:
  void write(const std::string& file, const std::string& contents) {
    const std::filesystem::path path = root_ / file;
    std::filesystem::create_directories(path.parent_path());
    test::overwrite(path.string(), contents);
  }
  void this_process_is_in(const std::string& groups) { write("proc/self/cgroup", groups); }
  std::optional<int64_t> limit() const { return memory_limit(root_.path()); }

 private:
  test::TemporaryFolder root_;
};

TEST_F(MemoryLimit, IsNoneWithoutControlGroups) {
  EXPECT_EQ(limit(), std::nullopt);
  this_process_is_in("0::/user.slice\n");
  EXPECT_EQ(limit(), std::nullopt);
}

TEST_F(MemoryLimit, IsTheLeastOfAGroupAndThoseAroundIt) {
  this_process_is_in("0::/slurmstepd.scope/job_7/step_0/user/task_0\n");
  write("sys/fs/cgroup/slurmstepd.scope/memory.max", "max\n");
  write("sys/fs/cgroup/slurmstepd.scope/job_7/memory.max", "34359738368\n");
  write("sys/fs/cgroup/slurmstepd.scope/job_7/step_0/memory.max", "42949672960\n");
  write("sys/fs/cgroup/slurmstepd.scope/job_7/step_0/user/task_0/memory.max", "max\n");
  write("sys/fs/cgroup/slurmstepd.scope/job_8/memory.max", "1024\n");
  EXPECT_EQ(limit(), int64_t{32} << 30);
}

TEST_F(MemoryLimit, IsNoneWhereEveryGroupSaysMax) {
  this_process_is_in("0::/a/b\n");
  write("sys/fs/cgroup/a/memory.max", "max\n");
  write("sys/fs/cgroup/a/b/memory.max", "max\n");
  EXPECT_EQ(limit(), std::nullopt);
}

TEST_F(MemoryLimit, OfAContainerThatSeesItsOwnGroupAlone) {
  this_process_is_in("0::/\n");
  write("sys/fs/cgroup/memory.max", "1073741824\n");
  EXPECT_EQ(limit(), int64_t{1} << 30);
  this_process_is_in("0::/kubepods/of-the-host\n");
  EXPECT_EQ(limit(), int64_t{1} << 30);
}

TEST_F(MemoryLimit, OfVersionOneIsThatOfItsMemoryController) {
  this_process_is_in("12:cpuset:/other\n9:cpu,memory:/slurm/uid_1/job_7\n3:hugetlb:/\n0::/scope\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/slurm/uid_1/job_7/memory.limit_in_bytes", "2147483648\n");
  write("sys/fs/cgroup/memory/other/memory.limit_in_bytes", "1024\n");
  EXPECT_EQ(limit(), int64_t{2} << 30);
}

TEST(UsableMemory, IsOfTheMachine) {
  EXPECT_GT(usable_memory(), 0);
  EXPECT_LE(usable_memory(), machine_memory());
}

}  // namespace
}  // namespace ringbolt
