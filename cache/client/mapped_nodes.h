// MappedNodes: which arenas of this host this client has mapped.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "cache/client/arena_pins.h"
#include "cache/client/mapped_arena.h"
#include "cache/client/writable_arena.h"
#include "membrain/result.h"
#include "protocol/messages.h"
#include "transport/completion.h"
#include "transport/loop.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

/// Gets the arena of a node of this host: at its door, or, in the simulator, from the process.
class ArenaOpener {
 public:
  virtual ~ArenaOpener() = default;
  virtual Task<Result<std::shared_ptr<const MappedArena>>> open(wire::NodeEntry node,
                                                                TimePoint deadline) = 0;
  /// The same for writing: `unavailable` where that cannot be had.
  virtual Task<Result<std::shared_ptr<const WritableArena>>> open_writable(wire::NodeEntry node,
                                                                           TimePoint deadline);
};

/// Arenas by node: immutable, shared by whoever reads.
class ArenaSet {
 public:
  using Arena = std::shared_ptr<const MappedArena>;

  using Writable = std::shared_ptr<const WritableArena>;

  /// `writable` may be null; `refused`: it will not come. `pinned` may be null, too.
  void add(Arena arena, Writable writable = nullptr, bool refused = true,
           ArenaPinner::Pinned pinned = nullptr) {
    arenas_.push_back({std::move(arena), std::move(writable), refused, std::move(pinned)});
  }
  /// Null if that node's arena is not mapped.
  [[nodiscard]] const Arena* find(NodeId node) const noexcept {
    const Entry* found = entry(node);
    return found != nullptr ? &found->arena : nullptr;
  }
  /// Null if that node's arena is not mapped for writing.
  [[nodiscard]] Writable writable(NodeId node) const noexcept {
    const Entry* found = entry(node);
    return found != nullptr ? found->writable : nullptr;
  }
  /// Where GPUs read that node's arena by themselves; null if they do not.
  [[nodiscard]] const PinnedArena* pinned(NodeId node) const noexcept {
    const Entry* found = entry(node);
    return found != nullptr ? found->pinned.get() : nullptr;
  }
  /// Asking for it may make it so.
  [[nodiscard]] bool may_become_writable(NodeId node) const noexcept {
    const Entry* found = entry(node);
    return found != nullptr && !found->writable && !found->refused;
  }

 private:
  struct Entry {
    Arena arena;
    Writable writable;
    bool refused = false;
    ArenaPinner::Pinned pinned;
  };
  [[nodiscard]] const Entry* entry(NodeId node) const noexcept {
    for (const Entry& one : arenas_) {  // as many as nodes on one host: few
      if (one.arena->node() == node) return &one;
    }
    return nullptr;
  }

  std::vector<Entry> arenas_;
};

/// Follows the shard's list of nodes: one that is alive, on this host, and has a door is mapped,
/// once in each of its lives. One that is not is forgotten; its memory is unmapped when the last
/// reader has let go of it. What cannot be mapped is tried again with the next list. With a pinner,
/// what is mapped is page-locked for the GPUs, meanwhile it is used as it is.
///
/// Threads  The control loop's, but for `arenas`: any.
class MappedNodes {
 public:
  static constexpr Duration kPatience = std::chrono::seconds(1);  ///< with one door

  /// Without an opener, or a host, nothing is ever mapped.
  MappedNodes(Loop& loop, std::unique_ptr<ArenaOpener> opener, std::string host);
  ~MappedNodes();
  MappedNodes(const MappedNodes&) = delete;
  MappedNodes& operator=(const MappedNodes&) = delete;

  /// Before the first `update`.
  void set_pinner(std::unique_ptr<ArenaPinner> pinner) { pinner_ = std::move(pinner); }

  void update(const std::vector<wire::NodeEntry>& nodes);
  /// A mapped node's arena is wanted for writing; `done` finishes when it is in `arenas`, or will
  /// not be. Asked once in a node's life: it is mapped when somebody first stores in place.
  void want_writable(NodeId node, Completion& done);
  /// Waits until no door is being knocked at. One waiter.
  Task<> settle();
  /// Maps nothing more, forgets all; ends when nothing runs.
  Task<> stop();

  /// What is mapped now. Null if nothing is.
  [[nodiscard]] std::shared_ptr<const ArenaSet> arenas() const;

 private:
  struct Neighbour {
    Incarnation life;
    std::string door;
    bool opening = false;
    bool told = false;  ///< why it cannot be mapped has been logged
    std::shared_ptr<const MappedArena> arena;
    std::shared_ptr<const WritableArena> writable;
    bool writable_refused = false;
    ArenaPinner::Pinned pinned;
    std::vector<Completion*> writers;  ///< wait for it
  };

  [[nodiscard]] bool mappable(const wire::NodeEntry& node) const noexcept;
  Task<> open(wire::NodeEntry node);
  Task<> open_writable(wire::NodeEntry node);
  Task<> pin(NodeId node, std::shared_ptr<const MappedArena> arena);
  Task<std::shared_ptr<const WritableArena>> to_pin(NodeId node);
  void publish();

  Loop& loop_;
  const std::unique_ptr<ArenaOpener> opener_;
  const std::string host_;
  std::map<NodeId, Neighbour> neighbours_;
  std::unique_ptr<ArenaPinner> pinner_;  ///< may be null
  std::uint32_t opening_ = 0;
  std::uint32_t pinning_ = 0;
  bool stopped_ = false;
  Signal settled_;

  std::atomic<bool> any_ = false;
  mutable std::mutex mutex_;
  std::shared_ptr<const ArenaSet> arenas_;  ///< guarded by the mutex
};

}  // namespace membrain
