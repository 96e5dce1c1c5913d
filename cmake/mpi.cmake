# Option RINGBOLT_MPI: ranks as processes. On where MPI is found, unless the configuration says OFF; an explicit ON without
# MPI is an error.
set(MPI_DETERMINE_LIBRARY_VERSION TRUE)  # before find_package, or the version stays empty
if(NOT DEFINED RINGBOLT_MPI)
  find_package(MPI 3.1 QUIET COMPONENTS C)
endif()
option(RINGBOLT_MPI "Ranks as processes, by MPI" ${MPI_FOUND})
if(RINGBOLT_MPI)
  find_package(MPI 3.1 REQUIRED COMPONENTS C)
  string(REGEX MATCH "^[^,\n]*" RINGBOLT_MPI_VERSION "${MPI_C_LIBRARY_VERSION_STRING}")  # "Open MPI v4.1.4"
endif()
