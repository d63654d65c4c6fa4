// DoorOpener: knocks at nodes' doors.
#pragma once

#include <memory>

#include "cache/client/mapped_nodes.h"
#include "transport/loop.h"

namespace membrain {

/// Asks for the arena at the local socket that a node has named, and maps what it gets. `denied` if
/// whoever answers is not of this user; `unavailable`, `timed_out`, `stale` or `corrupt` else.
///
/// Threads  The loop's. Never blocks it but to map.
class DoorOpener final : public ArenaOpener {
 public:
  explicit DoorOpener(Loop& loop) noexcept : loop_(loop) {}
  Task<Result<std::shared_ptr<const MappedArena>>> open(wire::NodeEntry node,
                                                        TimePoint deadline) override;
  Task<Result<std::shared_ptr<const WritableArena>>> open_writable(wire::NodeEntry node,
                                                                   TimePoint deadline) override;

 private:
  Loop& loop_;
};

/// What was handed out at a door.
struct HandedOut {
  Descriptor file;
  WriterId writer;  ///< if it was asked for writing
};

/// Asks at a door for the arena's file, for reading or writing.
Task<Result<HandedOut>> ask_at_door(Loop& loop, wire::NodeEntry node, bool writable,
                                    TimePoint deadline);

}  // namespace membrain
