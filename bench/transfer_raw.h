// The control of every transfer benchmark: the smallest UCX program that fetches blocks.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "membrain/result.h"

namespace membrain {

struct RawTransferConfig {
  std::string transports;  ///< as UcxContextConfig's: "tcp,self", or "" for shared memory
  std::size_t block_bytes = 1u << 20;
  std::size_t window = 4;  ///< blocks under way
  /// Distinct blocks on either side, fetched in turn (at least a window of them): the memory that
  /// passes through the caches, which must be that of whatever this is the control of.
  std::size_t blocks = 4;
};

/// Blocks fetched by active messages alone: a request of 8 bytes, answered by one active message
/// that carries the block from the server's registered memory into the caller's. A context with the
/// fabric's settings, a worker and a thread for the server, event-driven progress with the loop's
/// spin on both sides; no proof, no frame, no check.
///
/// Threads  One; the server's thread is its own.
class RawTransfer {
 public:
  static Result<std::unique_ptr<RawTransfer>> create(const RawTransferConfig& config);
  virtual ~RawTransfer() = default;

  /// Fetches `blocks` blocks, `window` at a time.
  virtual Result<> run(std::size_t blocks) = 0;
  [[nodiscard]] virtual std::string_view lane() const noexcept = 0;  ///< "tcp", "shm"
  /// Every byte of the destination is the server's.
  [[nodiscard]] virtual bool intact() const noexcept = 0;
};

}  // namespace membrain
