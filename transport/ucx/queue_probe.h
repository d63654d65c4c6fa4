// QueueProbe: whether a worker still hears who speaks to it over shared memory.
#pragma once

#include <ucp/api/ucp.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "transport/ucx/worker.h"

namespace membrain {

/// UCX has one queue for each receiver in shared memory, and whoever sends takes a place in it
/// before writing there. A process that is killed in between leaves its place empty for ever, and
/// nothing that comes after is heard (docs/adr/0036).
///
/// Ownership  It outlives the workers that it has met.
/// Threads    The workers'.
class QueueProbe {
 public:
  /// Before the worker is asked for the first time.
  Result<> meet(UcxWorker& worker);
  /// Speaks to the worker from another one. True if it hears that, or if it cannot be tried. The
  /// worker is progressed meanwhile.
  /// Cost  Half a millisecond; the first time, and after a `rest`, a worker's making, ten of them;
  ///       up to twice kPatience more if the queue is stuck.
  [[nodiscard]] bool heard_by(UcxWorker& worker, const std::shared_ptr<UcxContext>& context);
  /// Ends the other worker, which has a score of descriptors. The next call makes it again.
  void rest() noexcept { speaker_.reset(); }

 private:
  static constexpr unsigned kMessageId = 2;
  static constexpr Duration kPatience = std::chrono::milliseconds(20);
  static constexpr int kLeastTurns = 1000;  ///< on a busy machine time goes by without any

  static ucs_status_t on_message(void* probe, const void* header, std::size_t header_size,
                                 void* data, std::size_t size,
                                 const ucp_am_recv_param_t* param) noexcept;

  std::uint64_t heard_ = 0;
  std::unique_ptr<UcxWorker> speaker_;  ///< made when it is wanted first
};

}  // namespace membrain
