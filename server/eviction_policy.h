// What goes when a node needs room: the policy's interface.
#pragma once

#include <cstdint>

#include "server/records.h"

namespace membrain {

/// Orders the replicas that may go, for each node and size class. It is told of every change by the
/// catalog and decides nothing but the order.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  /// A new replica on `node` in a slot of `slot_bytes`; its entry's priority is final. It is held.
  virtual void add(Ref replica, std::uint32_t slot_bytes) = 0;
  /// It may go from now on, and was in use just now.
  virtual void release(Ref replica) = 0;
  /// It may not go (pinned), or is gone.
  virtual void hold(Ref replica) = 0;
  /// Its entry's last child has gone.
  virtual void childless(Ref replica) = 0;
  /// Which one goes next, or kNoRef. It stays until it is held.
  [[nodiscard]] virtual Ref victim(NodeIndex node, std::uint32_t slot_bytes) = 0;
  /// The size class that a replica was added with.
  [[nodiscard]] virtual std::uint32_t slot_bytes(Ref replica) const noexcept = 0;
  /// Empty if its lists are what they must be, else what is wrong. For tests and the simulator.
  [[nodiscard]] virtual const char* check_lists() const = 0;
};

}  // namespace membrain
