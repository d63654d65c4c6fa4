// RefIndex: from a hash to a record's reference, in four bytes a place.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/check.h"
#include "server/reserved_memory.h"
#include "server/slab.h"

namespace membrain {

/// An open-addressing table with linear probing over the records of a slab.
///
/// A place is 32 bits: the reference plus one, and above it whatever bits are left over, filled
/// with bits of the hash, so that most foreign records are told apart without a look at them.
/// Deletion shifts back: there are no tombstones. At 5/6 full a table of 5/4 the size is begun,
/// and every insertion moves a few places over: no insertion is slow, and both tables together
/// take no more than 11 bytes a record.
///
/// `HashOf` tells a living record's hash from its reference.
///
/// Cost  A find touches about one line of the table and one record. Six bytes a record when there
///       are `expected_count`, and when a table has just grown; eleven while it does.
template <class HashOf>
class RefIndex {
 public:
  RefIndex(HashOf hash_of, std::size_t expected_count)
      : hash_of_(std::move(hash_of)), table_(size_for(expected_count)) {}

  /// The record of that hash for which `same(ref)` holds.
  template <class Same>
  [[nodiscard]] Ref find(std::uint64_t hash, Same same) const {
    const Ref ref = find_in(table_, hash, same);
    if (ref != kNoRef || !growing()) return ref;
    return find_in(old_, hash, same);
  }
  /// The first record that may be the one: for prefetching.
  [[nodiscard]] Ref guess(std::uint64_t hash) const noexcept {
    const auto any = [](Ref) { return true; };
    return find(hash, any);
  }
  void prefetch(std::uint64_t hash) const noexcept {
    __builtin_prefetch(&table_.places[table_.home(hash)]);
    if (growing()) __builtin_prefetch(&old_.places[old_.home(hash)]);
  }

  /// A record that is not in the table yet.
  void insert(std::uint64_t hash, Ref ref) {
    if (growing()) {
      move_some();
    } else if (table_.count + 1 > room_in(table_.size)) {
      grow();
    }
    put(table_, hash, ref);
  }

  /// A record that is in the table; it must still be alive.
  void erase(std::uint64_t hash, Ref ref) {
    if (growing() && erase_from(old_, hash, ref)) return;
    check(erase_from(table_, hash, ref), "a record is not in its index");
  }

  [[nodiscard]] std::size_t count() const noexcept { return table_.count + old_.count; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return table_.memory.bytes() + old_.memory.bytes();
  }
  [[nodiscard]] bool growing() const noexcept { return old_.size != 0; }

 private:
  static constexpr std::uint32_t kMinPlaces = 64;
  static constexpr std::uint32_t kMaxPlaces = 1U << 30;
  static constexpr std::uint32_t kMovesPerInsert = 8;

  struct Table {
    Table() = default;
    explicit Table(std::uint32_t place_count)
        : memory(place_count * sizeof(std::uint32_t), place_count * sizeof(std::uint32_t)),
          places(static_cast<std::uint32_t*>(memory.data())),
          size(place_count),
          bits(static_cast<std::uint32_t>(std::bit_width(place_count))) {
      memory.prefer_huge_pages();
    }
    [[nodiscard]] std::uint32_t mask() const noexcept { return (1U << bits) - 1; }
    /// In the order of the hashes, so that records move to the next table from front to back.
    [[nodiscard]] std::uint32_t home(std::uint64_t hash) const noexcept {
      return static_cast<std::uint32_t>((hash >> 32) * size >> 32);
    }
    [[nodiscard]] std::uint32_t tag(std::uint64_t hash) const noexcept {
      return static_cast<std::uint32_t>(hash) & ((1U << (32 - bits)) - 1);
    }
    [[nodiscard]] Ref ref(std::uint32_t place) const noexcept { return (place & mask()) - 1; }
    [[nodiscard]] std::uint32_t after(std::uint32_t at) const noexcept {
      return at + 1 == size ? 0 : at + 1;
    }
    /// Places from `from` on to `to`, around the end if need be.
    [[nodiscard]] std::uint32_t distance(std::uint32_t from, std::uint32_t to) const noexcept {
      return to >= from ? to - from : to + size - from;
    }

    ReservedMemory memory;  ///< zeroed: nothing is touched before it is used
    std::uint32_t* places = nullptr;
    std::uint32_t size = 0;
    std::uint32_t bits = 0;  ///< of a place, for the reference
    std::size_t count = 0;
  };

  /// Records that a table may hold before a larger one is begun.
  [[nodiscard]] static std::size_t room_in(std::uint32_t size) noexcept {
    return std::size_t{size} / 6 * 5;
  }
  [[nodiscard]] static std::uint32_t size_for(std::size_t expected_count) noexcept {
    const std::size_t places = expected_count / 2 * 3 + 16;
    return static_cast<std::uint32_t>(std::clamp<std::size_t>(places, kMinPlaces, kMaxPlaces));
  }

  template <class Same>
  [[nodiscard]] static Ref find_in(const Table& in, std::uint64_t hash, Same same) {
    const std::uint32_t tag = in.tag(hash);
    for (std::uint32_t at = in.home(hash);; at = in.after(at)) {
      const std::uint32_t place = in.places[at];
      if (place == 0) return kNoRef;
      if (place >> in.bits == tag && same(in.ref(place))) return in.ref(place);
    }
  }

  static void put(Table& in, std::uint64_t hash, Ref ref) {
    check(ref < in.mask(), "a reference does not fit its index");
    std::uint32_t at = in.home(hash);
    while (in.places[at] != 0) at = in.after(at);
    in.places[at] = in.tag(hash) << in.bits | (ref + 1);
    ++in.count;
  }

  bool erase_from(Table& in, std::uint64_t hash, Ref ref) {
    for (std::uint32_t at = in.home(hash);; at = in.after(at)) {
      if (in.places[at] == 0) return false;
      if (in.ref(in.places[at]) != ref) continue;
      empty(in, at);
      return true;
    }
  }

  /// Empties a place and shifts back what had to step aside for it.
  void empty(Table& in, std::uint32_t hole) {
    for (std::uint32_t at = in.after(hole);; at = in.after(at)) {
      const std::uint32_t place = in.places[at];
      if (place == 0) break;
      const std::uint32_t home = in.home(hash_of_(in.ref(place)));
      if (in.distance(home, at) < in.distance(hole, at)) continue;
      in.places[hole] = place;
      hole = at;
    }
    in.places[hole] = 0;
    --in.count;
  }

  void grow() {
    check(table_.size < kMaxPlaces, "an index has reached its largest size");
    const std::uint64_t larger = std::uint64_t{table_.size} * 5 / 4;
    Table next(static_cast<std::uint32_t>(std::min<std::uint64_t>(larger, kMaxPlaces)));
    old_ = std::exchange(table_, std::move(next));
    cursor_ = 0;
    move_some();
  }

  /// A few places, and then to the end of a run, so that what is left of the old table needs no
  /// mending: every record is touched once.
  void move_some() {
    for (std::uint32_t looked = 0; old_.count > 0; ++looked, ++cursor_) {
      const std::uint32_t place = std::exchange(old_.places[cursor_], 0);
      if (place == 0 && looked >= kMovesPerInsert) break;
      if (place == 0) continue;
      const Ref ref = old_.ref(place);
      put(table_, hash_of_(ref), ref);
      --old_.count;
    }
    if (old_.count == 0) old_ = Table();
  }

  HashOf hash_of_;
  Table table_;
  Table old_;  ///< while growing: what has not been moved yet
  std::uint32_t cursor_ = 0;
};

}  // namespace membrain
