// LaneBook: what one client knows of its lanes, and what extra work it allows itself. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include "base/clock.h"
#include "base/ids.h"
#include "cache/client/lane_model.h"
#include "cache/client/share_budget.h"

namespace membrain {

/// How bytes come from a node.
enum class Path : std::uint8_t {
  message,  ///< the node is asked, and sends them
  window,   ///< hardware reads them
};

/// Lanes by node and path, with the bytes under way from each node.
///
/// Threads  The data loop only. Bound: kMaxNodes, of which nothing is under way.
class LaneBook {
 public:
  static constexpr std::size_t kMaxNodes = 4096;
  static constexpr std::uint64_t kHedgeBurstBytes = std::uint64_t{16} << 20;
  static constexpr std::uint64_t kMaxStagedBytes = std::uint64_t{32} << 20;

  /// In requests: a tenth of those that were answered.
  static constexpr ShareBudget::Terms kRetries{.share = 0.1, .most = 32, .per_second = 10};
  /// In bytes: a twentieth of those that have come (Dean and Barroso, The Tail at Scale, 2013: with
  /// the 95th percentile as the time to wait, hedges are about as many).
  static constexpr ShareBudget::Terms kHedges{.share = 0.05, .most = kHedgeBurstBytes};

  /// Clients draw their own jitter.
  void stir(std::uint64_t seed) noexcept { random_ ^= seed * 0x9e3779b97f4a7c15; }

  [[nodiscard]] LaneModel& lane(NodeId node, Path path = Path::message);
  /// Null if nothing is known of it.
  [[nodiscard]] const LaneModel* find(NodeId node, Path path = Path::message) const noexcept;
  /// A new life of it, or it has come back: nothing holds any more but what is under way.
  void forget(NodeId node) noexcept;

  void began(NodeId node, std::uint64_t bytes) { nodes_[node].under_way += bytes; }
  void ended(NodeId node, std::uint64_t bytes) noexcept;
  [[nodiscard]] std::uint64_t under_way(NodeId node) const noexcept;
  /// What `bytes` from the node would take: by its window, if that is used, else by messages.
  [[nodiscard]] std::optional<Duration> expected(NodeId node, std::uint64_t bytes,
                                                 TimePoint now) const noexcept;

  void failed(NodeId node, TimePoint now, Breaker::Pass pass, Path path = Path::message) {
    lane(node, path).breaker().failed(now, next_random(random_), pass);
  }
  void lost(NodeId node, TimePoint now) { lane(node).breaker().lost(now, next_random(random_)); }

  [[nodiscard]] ShareBudget& retries() noexcept { return retries_; }
  [[nodiscard]] ShareBudget& hedges() noexcept { return hedges_; }
  /// Room in Membrain's own memory for copies that nobody waits for yet. False if there is none.
  [[nodiscard]] bool take_staging(std::uint64_t bytes) noexcept;
  void give_staging(std::uint64_t bytes) noexcept { staged_bytes_ -= bytes; }
  [[nodiscard]] std::uint64_t staged_bytes() const noexcept { return staged_bytes_; }

 private:
  struct Node {
    std::array<LaneModel, 2> lanes;  ///< by Path
    std::uint64_t under_way = 0;     ///< bytes
  };

  std::map<NodeId, Node> nodes_;
  ShareBudget retries_{kRetries};
  ShareBudget hedges_{kHedges};
  std::uint64_t staged_bytes_ = 0;
  std::uint64_t random_ = 1;
};

}  // namespace membrain
