// Groups: clients that want the same blocks at the same time, e.g. the ranks of one model.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "membrain/block.h"

namespace membrain {

namespace detail {
struct GroupState;
}

/// Who belongs to a group. Names and members are the same in all of them, in the same order.
struct GroupConfig {
  std::string name;                  ///< 1 to 256 bytes: tells groups apart
  std::uint32_t rank = 0;            ///< of this client among the members
  std::vector<std::string> members;  ///< where each is reached: "host:port"; 2 to 1024
  std::string listen;                ///< where this one listens; empty: members[rank]
  /// The GPU (one of ClientConfig::devices) to which blocks come by NCCL where every member names
  /// one and has NCCL 2.20 or later (libnccl.so.2); -1: none. Its communicator takes some hundreds
  /// of MiB of the GPU from the first replication on. Where it fails, blocks come without it.
  int nccl_device = -1;
};

/// A client's place in a group (`Client::join`). Destroying it leaves the group.
///
/// Ownership  Move-only. It outlives replications in it, and not the client.
/// Threads    Any one thread at a time.
class Group {
 public:
  explicit Group(std::unique_ptr<detail::GroupState> state) noexcept;
  Group(Group&&) noexcept;
  Group& operator=(Group&&) noexcept;
  ~Group();

  [[nodiscard]] std::uint32_t rank() const noexcept;
  [[nodiscard]] std::uint32_t size() const noexcept;  ///< members
  [[nodiscard]] detail::GroupState& state() const noexcept { return *state_; }

 private:
  std::unique_ptr<detail::GroupState> state_;
};

/// Blocks that the root has and every member gets. All members say the same hashes and root; the
/// ids are each one's own. The spans are the caller's until the call returns.
struct Replication {
  std::uint32_t root = 0;  ///< rank of the member who has them
  std::span<const BlockHash> hashes = {};
  std::span<const std::uint32_t> ids = {};  ///< of this engine's blocks, as many as hashes
  std::uint32_t first_id = 0;               ///< with no `ids`: first_id, first_id + 1, ...
};

}  // namespace membrain
