// Windows: memory that a process opens, and that others read without asking it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "membrain/result.h"
#include "transport/completion.h"
#include "transport/fabric.h"
#include "transport/task.h"

namespace membrain {

/// Another process's memory, from outside. Its owner does not notice a read, cannot hold one up and
/// cannot refuse it: whoever reads must find out by himself whether what he read was what he meant.
///
/// Ownership  Closed before it is destroyed.
/// Threads    The loop's of the Windows that it came from.
class RemoteWindow {
 public:
  virtual ~RemoteWindow() = default;

  [[nodiscard]] virtual std::uint64_t size_bytes() const noexcept = 0;
  /// Reads from `offset` on into the concatenation of `into`. `done` finishes when every byte has
  /// landed or none can land any more: `invalid_argument` for a range outside the window,
  /// `peer_lost` once the other end is gone or this was closed. Reads of one window may overtake
  /// each other: what must be read later is asked for when the earlier has ended.
  virtual void read(std::uint64_t offset, std::span<const Segment> into, Completion& done) = 0;
  /// False once it has failed: no read succeeds any more.
  [[nodiscard]] virtual bool usable() const noexcept = 0;
  /// Ends every read, and itself; nothing lands when this has ended. Once.
  virtual Task<> close() = 0;
};

/// Threads  One loop's.
class Windows {
 public:
  static constexpr std::size_t kMaxWindowBytes = 4096;  ///< of what `open` returns

  virtual ~Windows() = default;
  /// Opens memory, which outlives this, to whoever has the bytes that are returned. It stays open
  /// until this is destroyed. `unavailable` without the hardware for it, `out_of_capacity` when the
  /// memory cannot be locked.
  virtual Result<std::vector<std::byte>> open(std::span<std::byte> memory) = 0;
  /// From those bytes; they come from a process that is trusted. `corrupt` for bytes that are none,
  /// `unavailable` if there is no way there. Connects with the first read.
  virtual Result<std::unique_ptr<RemoteWindow>> enter(std::span<const std::byte> window) = 0;
};

}  // namespace membrain
