// The control of every transfer benchmark: the smallest UCX program that fetches blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "membrain/result.h"

namespace membrain {

/// How a request for several blocks is answered.
enum class RawAnswer : std::uint8_t {
  message_per_block,  ///< sixteen small ones are faster over TCP than one of the same size
  one_message,        ///< the blocks lie side by side, and travel as one run
  gathered_message,   ///< one message, described to UCX block by block
};

struct RawTransferConfig {
  std::string transports;  ///< as UcxContextConfig's: "tcp,self", or "" for shared memory
  std::size_t block_bytes = 1u << 20;
  std::size_t window = 4;  ///< requests under way
  std::size_t batch = 1;   ///< blocks that one request asks for
  RawAnswer answer = RawAnswer::message_per_block;
  /// Distinct blocks on either side, fetched in turn (at least a window of batches): the memory
  /// that passes through the caches, which must be that of whatever this is the control of.
  std::size_t blocks = 4;
};

/// Blocks fetched by active messages alone: a request of 16 bytes, answered by an active message
/// that carries the block from the server's registered memory into the caller's. With a window and
/// a batch of one it is the ping-pong that a round trip is measured against. A context with the
/// fabric's settings, a worker and a thread for the server, event-driven progress with the loop's
/// spin on both sides; no proof, no frame, no check.
///
/// Threads  One; the server's thread is its own.
class RawTransfer {
 public:
  static Result<std::unique_ptr<RawTransfer>> create(const RawTransferConfig& config);
  virtual ~RawTransfer() = default;

  /// Fetches `blocks` blocks (a multiple of `batch`), `window` requests at a time.
  virtual Result<> run(std::size_t blocks) = 0;
  [[nodiscard]] virtual std::string_view lane() const noexcept = 0;  ///< "tcp", "shm"
  /// Every byte of the destination is the server's.
  [[nodiscard]] virtual bool intact() const noexcept = 0;
};

}  // namespace membrain
