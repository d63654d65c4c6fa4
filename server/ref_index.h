// RefIndex: from a hash to a record's reference, in four bytes a place.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>

#include "base/check.h"
#include "server/slab.h"

namespace membrain {

/// An open-addressing table with linear probing over the records of a slab.
///
/// A place is 32 bits: the reference plus one, and above it whatever bits are left over, filled
/// with bits of the hash, so that most foreign records are told apart without a look at them.
/// Deletion shifts back: there are no tombstones. At 3/4 full a table of twice the size is begun,
/// and every insertion moves a few places over: no insertion is slow.
///
/// `HashOf` tells a living record's hash from its reference.
///
/// Cost  A find touches about one line of the table and one record. Five to eleven bytes a record
///       within `expected_count`; up to sixteen while it grows beyond that.
template <class HashOf>
class RefIndex {
 public:
  RefIndex(HashOf hash_of, std::size_t expected_count)
      : hash_of_(std::move(hash_of)), table_(bits_for(expected_count)) {}

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
    } else if (table_.count + 1 > table_.size() / 4 * 3) {
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
    return (table_.size() + old_.size()) * sizeof(std::uint32_t);
  }
  [[nodiscard]] bool growing() const noexcept { return old_.places != nullptr; }

 private:
  static constexpr std::uint32_t kMinBits = 6;
  static constexpr std::uint32_t kMaxBits = 30;
  static constexpr std::uint32_t kMovesPerInsert = 8;

  struct Free {
    void operator()(std::uint32_t* places) const noexcept { std::free(places); }
  };
  struct Table {
    Table() = default;
    explicit Table(std::uint32_t size_bits) : bits(size_bits) {
      check(bits <= kMaxBits, "an index has reached its largest size");
      // Zero pages from the system: nothing is touched before it is used.
      places.reset(static_cast<std::uint32_t*>(std::calloc(size(), sizeof(std::uint32_t))));
      check(places != nullptr, "no memory for an index");
    }
    [[nodiscard]] std::size_t size() const noexcept {
      return bits == 0 ? 0 : std::size_t{1} << bits;
    }
    [[nodiscard]] std::uint32_t mask() const noexcept { return (1U << bits) - 1; }
    [[nodiscard]] std::uint32_t home(std::uint64_t hash) const noexcept {
      return static_cast<std::uint32_t>(hash >> (64 - bits));
    }
    [[nodiscard]] std::uint32_t tag(std::uint64_t hash) const noexcept {
      return static_cast<std::uint32_t>(hash) & ((1U << (32 - bits)) - 1);
    }
    [[nodiscard]] Ref ref(std::uint32_t place) const noexcept { return (place & mask()) - 1; }

    std::unique_ptr<std::uint32_t[], Free> places;
    std::uint32_t bits = 0;
    std::size_t count = 0;
  };

  [[nodiscard]] static std::uint32_t bits_for(std::size_t expected_count) noexcept {
    const std::size_t places = expected_count / 3 * 4 + expected_count % 3 + 2;
    const auto bits = static_cast<std::uint32_t>(std::bit_width(places - 1));
    return std::clamp(bits, kMinBits, kMaxBits);
  }

  template <class Same>
  [[nodiscard]] static Ref find_in(const Table& in, std::uint64_t hash, Same same) {
    const std::uint32_t tag = in.tag(hash);
    for (std::uint32_t at = in.home(hash);; at = (at + 1) & in.mask()) {
      const std::uint32_t place = in.places[at];
      if (place == 0) return kNoRef;
      if (place >> in.bits == tag && same(in.ref(place))) return in.ref(place);
    }
  }

  static void put(Table& in, std::uint64_t hash, Ref ref) {
    check(ref < in.mask(), "a reference does not fit its index");
    std::uint32_t at = in.home(hash);
    while (in.places[at] != 0) at = (at + 1) & in.mask();
    in.places[at] = in.tag(hash) << in.bits | (ref + 1);
    ++in.count;
  }

  bool erase_from(Table& in, std::uint64_t hash, Ref ref) {
    for (std::uint32_t at = in.home(hash);; at = (at + 1) & in.mask()) {
      if (in.places[at] == 0) return false;
      if (in.ref(in.places[at]) != ref) continue;
      empty(in, at);
      return true;
    }
  }

  /// Empties a place and shifts back what had to step aside for it.
  void empty(Table& in, std::uint32_t hole) {
    for (std::uint32_t at = (hole + 1) & in.mask();; at = (at + 1) & in.mask()) {
      const std::uint32_t place = in.places[at];
      if (place == 0) break;
      const std::uint32_t home = in.home(hash_of_(in.ref(place)));
      if (((at - home) & in.mask()) < ((at - hole) & in.mask())) continue;
      in.places[hole] = place;
      hole = at;
    }
    in.places[hole] = 0;
    --in.count;
  }

  void grow() {
    const std::uint32_t bits = table_.bits + 1;
    old_ = std::exchange(table_, Table(bits));
    cursor_ = 0;
    move_some();
  }

  /// Places before the cursor are empty for good: shifting back crosses it only at the very end.
  void move_some() {
    for (std::uint32_t moved = 0; moved < kMovesPerInsert && old_.count > 0; ++moved) {
      const std::uint32_t place = old_.places[cursor_];
      if (place == 0) {
        ++cursor_;
        continue;
      }
      const Ref ref = old_.ref(place);
      put(table_, hash_of_(ref), ref);
      empty(old_, cursor_);
    }
    if (old_.count == 0) old_ = Table();
  }

  HashOf hash_of_;
  Table table_;
  Table old_;  ///< while growing: what has not been moved yet
  std::uint32_t cursor_ = 0;
};

}  // namespace membrain
