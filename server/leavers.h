// Leavers: how much the nodes that are about to go have that nobody else keeps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "server/catalog.h"
#include "server/namespaces.h"
#include "server/nodes.h"

namespace membrain {

/// Replicas of an entry in nodes' memory, which nobody takes back.
struct Kept {
  std::size_t staying = 0;
  std::size_t leaving = 0;  ///< on nodes that are about to go
  [[nodiscard]] std::size_t all() const noexcept { return staying + leaving; }
};

[[nodiscard]] Kept kept(const Catalog& catalog, const Nodes& nodes, const Entry& entry) noexcept;

/// Walks over the catalog again and again while a node leaves: each walk counts anew, so copies
/// that arrive, and replicas that are lost meanwhile, are in the next count.
///
/// Bounds   kEntries a tick. Time: a parameter. Threads: one.
class Leavers {
 public:
  static constexpr std::size_t kEntries = 4096;                       ///< looked at in one tick
  static constexpr Duration kPause = std::chrono::milliseconds(100);  ///< between two walks
  static constexpr std::uint64_t kNotCounted = UINT64_MAX;

  Leavers(const Catalog& catalog, const Nodes& nodes, const Namespaces& spaces) noexcept
      : catalog_(catalog), nodes_(nodes), spaces_(spaces) {}

  /// A node begins to leave, or does not any more: what was counted says nothing now.
  void changed();
  [[nodiscard]] bool any() const noexcept { return any_; }
  void tick(TimePoint now);
  /// A walk is under way: tick again soon, please.
  [[nodiscard]] bool walking() const noexcept { return any_ && next_ > 0; }
  /// Block parts of the node that only nodes which leave keep, by the last whole walk; kNotCounted
  /// before the first one.
  [[nodiscard]] std::uint64_t alone(NodeIndex node) const noexcept {
    return node < counted_.size() ? counted_[node] : kNotCounted;
  }

 private:
  void begin_walk();
  void count(const Entry& entry);

  const Catalog& catalog_;
  const Nodes& nodes_;
  const Namespaces& spaces_;
  bool any_ = false;
  Ref next_ = 0;
  TimePoint not_before_{};
  std::vector<std::uint64_t> counting_;  ///< by node, of this walk
  std::vector<std::uint64_t> counted_;   ///< of the last one; empty: there was none
};

}  // namespace membrain
