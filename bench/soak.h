// Soak: the same work for a long time, watched for memory that grows.
#pragma once

#include <chrono>
#include <cstddef>

namespace membrain {

struct SoakConfig {
  std::chrono::seconds length{600};
  std::chrono::seconds warm_up{20};  ///< pools, arena pages and UCX's buffers fill meanwhile
  std::chrono::seconds every{5};     ///< a line of output
  std::size_t most_growth_bytes = std::size_t{8} << 20;  ///< of resident memory, after the warm-up
};

/// Stores, looks up, fetches and releases, over TCP in this process, in an arena so small that
/// blocks are evicted all the time. Prints what is resident; true if it did not grow by more than
/// the bound, and every fetch of what was found came.
bool soak(const SoakConfig& config);

}  // namespace membrain
