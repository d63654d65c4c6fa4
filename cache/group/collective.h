// Collective: another library than UCX that brings blocks to all members of a group at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "cache/memory/place.h"
#include "protocol/group_messages.h"
#include "transport/task.h"

namespace membrain {

/// One member's part. The places are its own; all the rest is the same at every member.
struct CollectiveJob {
  wire::CollectiveId id{};  ///< of the communicator: what it has, or a new one
  std::uint32_t root = 0;
  std::uint32_t chunk_blocks = 0;
  std::uint64_t block_bytes = 0;
  const std::vector<Place>* places = nullptr;
  TimePoint deadline;
};

/// A member's end of it.
///
/// Ownership  Whatever waits on it ends before it goes, `close` too.
/// Threads    The data loop, which it never blocks.
class Collective {
 public:
  virtual ~Collective() = default;

  /// The lane's, in reports. Static storage.
  [[nodiscard]] virtual std::string_view name() const noexcept = 0;
  /// How many blocks of so many bytes can go at once, each in so many of the GPU's chunks; 0: none.
  [[nodiscard]] virtual std::uint32_t most_blocks(std::uint64_t block_bytes,
                                                  std::size_t pieces) const noexcept = 0;
  /// The communicator that there is; all zeros if there is none.
  [[nodiscard]] virtual const wire::CollectiveId& current() const noexcept = 0;
  /// One that nobody has yet; all zeros if the library does not work, or not by `deadline`.
  virtual Task<wire::CollectiveId> make_id(TimePoint deadline) = 0;
  /// By block: it is here, whole and compared. When this has ended, soon after the deadline or
  /// `stop`, no place is touched any more. One at a time.
  virtual Task<std::vector<bool>> run(CollectiveJob job) = 0;
  /// What runs is to end now.
  virtual void stop() noexcept = 0;
  /// Gives everything back. The last call.
  virtual Task<> close() = 0;
};

}  // namespace membrain
