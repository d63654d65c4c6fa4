// WindowRead: blocks of one node, read by hardware.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "cache/client/fetch_exchange.h"
#include "cache/client/node_windows.h"
#include "protocol/seal.h"
#include "transport/task.h"

namespace membrain {

inline constexpr const char* kWindowLane = "one-sided";  ///< in TransferReport::lane_bytes

/// A seal as it was read says that its slot holds this part, in this use of it. (Bytes, as a
/// coroutine's frame has no room that is aligned like a Seal.)
[[nodiscard]] bool seal_names(std::span<const std::byte, sizeof(Seal)> seal,
                              const FetchTarget& target, NamespaceId space) noexcept;

/// Reads targets through a window, a few at a time: the bytes, then, when they are here, the slot's
/// seal. The node breaks the seal before it writes into the slot again, so a seal that still names
/// the target says that the bytes were the target's; whole parts are hashed besides. What the
/// window does not have, or does not confirm, is for the checked way: a WindowRead ends targets
/// only with success, or because it was stopped.
///
/// Threads  The data loop only. Outlives `run`.
class WindowRead {
 public:
  static constexpr Duration kDrain = FetchExchange::kDrain;

  WindowRead(NodeLinks& links, NodeWindows& windows, std::shared_ptr<const NodeWindow> window,
             FetchTerms terms, std::vector<FetchTarget> targets, FetchListener& listener);

  /// Yields the targets that have not ended: ask the node for them. None of their memory is
  /// written any more.
  Task<std::vector<FetchTarget>> run();
  /// What has not been read ends with `why`. Reads under way have kDrain, then the window is
  /// closed.
  void stop(Errc why);
  /// A read did not end well: the hardware's failure, or the other side's.
  [[nodiscard]] bool failed() const noexcept { return failed_; }
  /// A read ended well, whatever it brought.
  [[nodiscard]] bool answered() const noexcept { return answered_; }

 private:
  Task<> work();
  Task<bool> read(const FetchTarget& target);
  [[nodiscard]] LaneModel& lane() { return links_.lanes().lane(terms_.node, Path::window); }

  NodeLinks& links_;
  NodeWindows& windows_;
  const std::shared_ptr<const NodeWindow> window_;
  const FetchTerms terms_;
  std::vector<FetchTarget> targets_;
  std::vector<FetchTarget> rest_;
  FetchListener& listener_;
  std::size_t next_ = 0;
  Completion workers_;
  Timer timer_;
  bool stopped_ = false;
  bool failed_ = false;
  bool answered_ = false;
  Errc why_stopped_ = Errc::timed_out;
};

}  // namespace membrain
