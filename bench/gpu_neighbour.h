// Another process on the same GPU, for gpu_bench: what goes between two engines of a host.
#pragma once

#include <string>

#include "bench/forked.h"
#include "bench/gpu_ipc.h"
#include "tools/outcome.h"
#include "transport/nccl/library.h"

namespace membrain::gpu_bench {

/// The process. It does nothing before it is told to.
///
/// Ownership  Destroying it ends the process. Threads: one.
class GpuNeighbour {
 public:
  /// Forks, so before CUDA and UCX have begun here. `driver` is the library of both.
  explicit GpuNeighbour(std::string driver);

  /// It fills a cache on its GPU.
  [[nodiscard]] Outcome<cuda::IpcHandle> open_memory();
  /// It starts a server and a node, shares the cache from its GPU, and stores the same on the node.
  /// The server's address.
  [[nodiscard]] Outcome<std::string> open_cluster();
  /// It makes the id of a communicator.
  [[nodiscard]] Outcome<nccl::UniqueId> make_id();
  /// It joins that communicator as the first; it sends its cache to the other member. Each waits
  /// for the other side, and `end` for it. False if the process has ended.
  [[nodiscard]] bool begin_join();
  [[nodiscard]] bool begin_broadcast();
  [[nodiscard]] Outcome<> end();

 private:
  Forked process_;
};

}  // namespace membrain::gpu_bench
