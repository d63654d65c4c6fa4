// The rows of gpu_bench for which another process is needed.
#pragma once

#include <string>

#include "bench/gpu_neighbour.h"

namespace membrain::gpu_bench {

/// Adds them; a row that cannot be measured says why when its turn comes. `neighbour` must live as
/// long as rows run.
void add_between_rows(GpuNeighbour& neighbour, const std::string& driver);
/// Ends what they opened, while `neighbour` lives.
void end_between_rows();

}  // namespace membrain::gpu_bench
