#include "parallel/launch.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

namespace ringbolt {
namespace {

std::optional<int> number_in(const char* text) {
  if (text == nullptr) return std::nullopt;
  const std::string_view word(text);
  int value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  // srun writes "4(x2)" for four on each of two machines.
  const bool whole = end == word.data() + word.size() || *end == '(';
  if (error != std::errc() || !whole) return std::nullopt;
  return value;
}

struct Launcher {
  const char* rank;
  const char* size;
  const char* local_size;
  const char* local_rank;
};

// Open MPI's mpirun; MPICH, Intel MPI and srun --mpi=pmi2; srun --mpi=pmix; srun without an MPI
// plugin, which is an error that only its variables give away. (A batch script is no step of srun
// and has no number of tasks.)
constexpr Launcher kLaunchers[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE",
     "OMPI_COMM_WORLD_LOCAL_RANK"},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"},
    {"PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE", "SLURM_LOCALID"},
};

}  // namespace

std::optional<Launch> find_launch_in(const std::function<const char*(const char*)>& value_of) {
  const auto number = [&](const char* variable) { return number_in(value_of(variable)); };
  for (const Launcher& launcher : kLaunchers) {
    if (const auto rank = number(launcher.rank)) {
      return Launch{.rank = *rank,
                    .size = number(launcher.size).value_or(0),
                    .local_size = number(launcher.local_size).value_or(0),
                    .local_rank = number(launcher.local_rank).value_or(*rank)};
    }
  }
  const auto rank = number("SLURM_PROCID");
  const auto size = number("SLURM_STEP_NUM_TASKS");
  if (rank && size && *size > 1)
    return Launch{.rank = *rank,
                  .size = *size,
                  .local_size = 0,
                  .local_rank = number("SLURM_LOCALID").value_or(*rank)};
  return std::nullopt;
}

const std::optional<Launch>& find_launch() {
  static const std::optional<Launch> launch =
      find_launch_in([](const char* name) { return std::getenv(name); });
  return launch;
}

}  // namespace ringbolt
