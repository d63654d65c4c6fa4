// The other control: UCX's one-sided reads, as a program gets them that sets nothing.
#pragma once

#include <cstddef>
#include <memory>

#include "membrain/result.h"

namespace membrain {

struct RawGetConfig {
  const char* transports = "tcp,self";  ///< static; all else is UCX's default
  std::size_t block_bytes = 1u << 20;
  std::size_t window = 4;   ///< reads under way
  std::size_t blocks = 32;  ///< distinct ones, read in turn
};

/// Blocks read by ucp_get from one worker's registered memory into another's, each worker on a
/// thread of its own and progressed as the loop does (TCP's reads are emulated by their target), in
/// a process of its own that sees the environment as it was at the fork: made before the first
/// UcxContext, none of Membrain's settings is in it.
///
/// Ownership  Destroying it ends the process.
/// Threads    One; there is no other in this process when it is made.
class RawGet {
 public:
  /// Forks. What fails in the child shows in `run`.
  static std::unique_ptr<RawGet> fork(const RawGetConfig& config);
  virtual ~RawGet() = default;

  /// Reads `blocks` blocks. The first time, the child sets itself up before, and checks every byte
  /// after.
  virtual Result<> run(std::size_t blocks) = 0;
};

}  // namespace membrain
