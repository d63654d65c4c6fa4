// What this client's session pins, and what the shard has yet to be told that it does not. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/ids.h"

namespace membrain {

/// What one lookup pins: enough to assert it again after a reconnect.
struct HeldPin {
  NamespaceId space;
  std::uint16_t parts = 1;
  std::span<const BlockKey> keys;
  std::shared_ptr<const void> owner;  ///< of the keys: the match that they were found for

  [[nodiscard]] static HeldPin with(NamespaceId space, std::uint16_t parts,
                                    std::vector<BlockKey> keys) {
    auto owned = std::make_shared<const std::vector<BlockKey>>(std::move(keys));
    return {space, parts, *owned, owned};
  }
};

/// What the shard must be told that nobody needs.
struct Unpinning {
  LookupId lookup;
  NamespaceId space;           ///< of `keys`
  std::vector<BlockKey> keys;  ///< none: all that the lookup pins
  std::uint64_t serial = 0;    ///< which word about the lookup this is
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
  void release(LookupId lookup);
  /// Likewise for some keys of a lookup that goes on to pin others.
  void release(LookupId lookup, NamespaceId space, std::vector<BlockKey> keys);
  void release_all();

  [[nodiscard]] const HeldPin* find(LookupId lookup) const noexcept;
  [[nodiscard]] std::vector<LookupId> held() const;
  [[nodiscard]] std::size_t held_count() const noexcept { return held_.size(); }

  /// What the shard must still be told, oldest lookup first: at most `max_count` lookups and
  /// `max_keys` keys (but at least one lookup, if there is any).
  [[nodiscard]] std::vector<Unpinning> unpinning(std::size_t max_count, std::size_t max_keys) const;
  [[nodiscard]] bool unpinned() const noexcept { return unpinning_.empty(); }
  /// The shard has taken these. A later word about the same lookup stands.
  void acknowledge(std::span<const Unpinning> told);

 private:
  std::map<LookupId, HeldPin> held_;
  std::map<LookupId, Unpinning> unpinning_;
  std::uint64_t next_serial_ = 1;
};

}  // namespace membrain
