// What launchers say, by the variables that they set.
#include "parallel/launch.h"

#include <map>
#include <string>

#include <gtest/gtest.h>

namespace ringbolt {
namespace {

using Environment = std::map<std::string, const char*>;

std::optional<Launch> launch_of(const Environment& environment) {
  return find_launch_in([&](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second;
  });
}

void expect_launch(const Environment& environment, int rank, int size, int local_size,
                   int local_rank) {
  const std::optional<Launch> launch = launch_of(environment);
  ASSERT_TRUE(launch.has_value());
  EXPECT_EQ(launch->rank, rank);
  EXPECT_EQ(launch->size, size);
  EXPECT_EQ(launch->local_size, local_size);
  EXPECT_EQ(launch->local_rank, local_rank);
}

TEST(Launch, IsNothingWithoutALauncher) {
  EXPECT_FALSE(launch_of({}));
  EXPECT_FALSE(launch_of({{"OMPI_COMM_WORLD_RANK", "none"}}));
  // A shell or batch script of Slurm is no step of several tasks.
  EXPECT_FALSE(launch_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}));
  EXPECT_FALSE(launch_of({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}));
}

TEST(Launch, IsWhatOpenMpiSays) {
  expect_launch({{"OMPI_COMM_WORLD_RANK", "3"},
                 {"OMPI_COMM_WORLD_SIZE", "8"},
                 {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                 {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                 {"PMIX_RANK", "3"}},
                3, 8, 4, 1);
}

TEST(Launch, IsWhatMpichAndSlurmSay) {
  expect_launch({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MPI_LOCALNRANKS", "2"}}, 1, 2, 2, 1);
  expect_launch({{"PMIX_RANK", "5"},
                 {"SLURM_STEP_NUM_TASKS", "8"},
                 {"SLURM_STEP_TASKS_PER_NODE", "4(x2)"},
                 {"SLURM_LOCALID", "2"}},
                5, 8, 4, 2);
  // srun without a plugin for MPI: each task would be a run of its own.
  expect_launch({{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}}, 1, 2, 0, 1);
}

}  // namespace
}  // namespace ringbolt
