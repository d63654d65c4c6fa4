// ShardMap: which shard has which keys. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"
#include "membrain/result.h"
#include "protocol/shard_messages.h"

namespace membrain {

/// Keys by their high half; both ends belong to it.
struct KeyRange {
  std::uint64_t first = 0;
  std::uint64_t last = UINT64_MAX;
  [[nodiscard]] bool has(const BlockKey& key) const noexcept {
    return key.high >= first && key.high <= last;
  }
  bool operator==(const KeyRange&) const = default;
};

/// Ranges of the key space, without gaps and overlaps, each of one shard. All parts of a block are
/// in one shard: they share their key. Keys are keyed hashes, so ranges of equal width hold equal
/// shares.
///
/// Threads  Immutable.
class ShardMap {
 public:
  /// One shard with everything.
  ShardMap() : ShardMap(equal(1)) {}
  /// Shards 0 to `count - 1` with equal ranges, version 1.
  [[nodiscard]] static ShardMap equal(std::size_t count);
  /// `corrupt` if it has gaps, names a shard twice, or is empty.
  [[nodiscard]] static Result<ShardMap> from(const wire::ShardList& list);
  /// "VERSION FIRST:SHARD FIRST:SHARD ...", FIRST in hexadecimal: as coordination keeps it.
  [[nodiscard]] static Result<ShardMap> parse(std::string_view text);
  [[nodiscard]] std::string text() const;

  [[nodiscard]] std::uint32_t version() const noexcept { return version_; }
  [[nodiscard]] std::size_t count() const noexcept { return places_.size(); }
  /// By their ranges' order.
  [[nodiscard]] ShardId shard(std::size_t index) const noexcept { return places_[index].shard; }
  [[nodiscard]] KeyRange range(std::size_t index) const noexcept;
  /// Of the shard that has this key.
  [[nodiscard]] std::size_t index_of(const BlockKey& key) const noexcept;
  /// `count()` if there is no such shard.
  [[nodiscard]] std::size_t index_of(ShardId shard) const noexcept;

  /// The next version, in which `fresh` has the upper half of `shard`'s range. `not_found`,
  /// `invalid_argument` (`fresh` is there already), `out_of_capacity`.
  [[nodiscard]] Result<ShardMap> split(ShardId shard, ShardId fresh) const;

  bool operator==(const ShardMap&) const = default;

 private:
  struct Place {
    std::uint64_t first = 0;
    ShardId shard;
    bool operator==(const Place&) const = default;
  };
  ShardMap(std::uint32_t version, std::vector<Place> places) noexcept
      : version_(version), places_(std::move(places)) {}
  static Result<ShardMap> checked(std::uint32_t version, std::vector<Place> places);

  std::uint32_t version_;
  std::vector<Place> places_;
};

}  // namespace membrain
