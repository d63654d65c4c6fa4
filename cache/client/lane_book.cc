#include "cache/client/lane_book.h"

#include "base/check.h"

namespace membrain {

LaneModel& LaneBook::lane(NodeId node, Path path) {
  const auto [found, fresh] = nodes_.try_emplace(node);
  if (fresh && nodes_.size() > kMaxNodes) {
    std::erase_if(nodes_, [node](const auto& item) {
      return item.first != node && item.second.under_way == 0;
    });
  }
  return found->second.lanes[static_cast<std::size_t>(path)];
}

const LaneModel* LaneBook::find(NodeId node, Path path) const noexcept {
  const auto found = nodes_.find(node);
  return found == nodes_.end() ? nullptr : &found->second.lanes[static_cast<std::size_t>(path)];
}

void LaneBook::forget(NodeId node) noexcept {
  const auto found = nodes_.find(node);
  if (found != nodes_.end()) found->second.lanes = {};
}

void LaneBook::ended(NodeId node, std::uint64_t bytes) noexcept {
  const auto found = nodes_.find(node);
  check(found != nodes_.end() && found->second.under_way >= bytes, "more ended than began");
  found->second.under_way -= bytes;
}

std::uint64_t LaneBook::under_way(NodeId node) const noexcept {
  const auto found = nodes_.find(node);
  return found == nodes_.end() ? 0 : found->second.under_way;
}

std::optional<Duration> LaneBook::expected(NodeId node, std::uint64_t bytes,
                                           TimePoint now) const noexcept {
  const auto found = nodes_.find(node);
  if (found == nodes_.end()) return std::nullopt;
  const auto of = [&](Path path) -> std::optional<Duration> {
    const LaneModel& lane = found->second.lanes[static_cast<std::size_t>(path)];
    if (!lane.breaker().admits(now)) return std::nullopt;
    return lane.expected(found->second.under_way, bytes, now);
  };
  const std::optional<Duration> window = of(Path::window);
  return window ? window : of(Path::message);
}

bool LaneBook::take_staging(std::uint64_t bytes) noexcept {
  if (bytes > kMaxStagedBytes - staged_bytes_) return false;
  staged_bytes_ += bytes;
  return true;
}

}  // namespace membrain
