// What this client's session pins, and what the shard has yet to be told that it does not. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "base/ids.h"

namespace membrain {

/// What one lookup pins: enough to assert it again after a reconnect.
struct HeldPin {
  NamespaceId space;
  std::uint16_t parts = 1;
  std::vector<BlockKey> keys;
};

/// The pins of one client by lookup id. Ids never repeat, so a late word about one changes nothing.
///
/// Threads  The control loop only.
class PinRegistry {
 public:
  /// The shard pins these for us now.
  void hold(LookupId lookup, HeldPin pin) { held_.insert_or_assign(lookup, std::move(pin)); }
  /// Nobody here needs it any more: the shard is to be told until it has acknowledged. Also for a
  /// lookup whose answer never came.
  void release(LookupId lookup) {
    held_.erase(lookup);
    unpinning_.insert(lookup);
  }
  void release_all();

  [[nodiscard]] const HeldPin* find(LookupId lookup) const noexcept;
  [[nodiscard]] std::vector<LookupId> held() const;
  [[nodiscard]] std::size_t held_count() const noexcept { return held_.size(); }

  /// The oldest ids that the shard must still be told of, at most `max_count`.
  [[nodiscard]] std::vector<LookupId> unpinning(std::size_t max_count) const;
  [[nodiscard]] bool unpinned() const noexcept { return unpinning_.empty(); }
  void acknowledge(std::span<const LookupId> lookups);

 private:
  std::map<LookupId, HeldPin> held_;
  std::set<LookupId> unpinning_;
};

}  // namespace membrain
