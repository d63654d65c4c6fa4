// What a schedule has seen, and what of it must not have happened.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "tests/sim/content.h"

namespace membrain::sim {

struct Counts {
  std::uint64_t lookups = 0;
  std::uint64_t blocks_hit = 0;
  std::uint64_t fetched = 0;
  std::uint64_t read_from_afar = 0;  ///< fetches of which a part came through a window
  std::uint64_t mapped = 0;          ///< fetches of which a part was copied from a mapped arena
  std::uint64_t viewed = 0;          ///< blocks read in place, and good
  std::uint64_t stale_views = 0;
  std::uint64_t missed = 0;
  std::uint64_t stored = 0;
  std::uint64_t not_stored = 0;
  std::uint64_t clears = 0;
  std::uint64_t copied = 0;                          ///< blocks, from node to node, as far as known
  std::map<std::string_view, std::uint64_t> faults;  ///< by kind
  std::map<std::string_view, std::uint64_t> met;     ///< what protocols stumble over, by kind
  std::uint64_t terms = 0;                           ///< of leaders
  std::uint64_t events = 0;

  void fault(std::string_view kind, std::uint64_t times = 1) {
    if (times > 0) faults[kind] += times;
  }
  void meet(std::string_view what, std::uint64_t times = 1) { met[what] += times; }
  /// All of another schedule's.
  void add(const Counts& other);
};

/// Violations, in words, and the destinations that were reported: nothing may land in them any
/// more.
class Ledger {
 public:
  static constexpr std::size_t kWatched = 24;  ///< destinations remembered

  Counts counts;

  void violation(std::string what) {
    if (violations_.size() < 10) violations_.push_back(std::move(what));
  }
  [[nodiscard]] const std::vector<std::string>& violations() const noexcept { return violations_; }

  /// A client was told that this namespace's era is that now.
  void told_era(NamespaceId space, Era era) {
    Era& told = told_eras_[space];
    told = std::max(told, era);
  }
  [[nodiscard]] const std::map<NamespaceId, Era>& told_eras() const noexcept { return told_eras_; }

  /// S1, second half: an operation on `buffer` has been reported; from now on it must not change.
  void watch(std::vector<std::byte> buffer) {
    std::vector<std::byte> copy = buffer;
    // The buffer itself is moved: its heap memory, where bytes could still land, stays the same.
    watched_.push_back({std::move(buffer), std::move(copy)});
    if (watched_.size() <= kWatched) return;
    check_watched(watched_.front());
    watched_.pop_front();
  }
  void check_watched() {
    for (const Watched& watched : watched_) check_watched(watched);
  }

 private:
  struct Watched {
    std::vector<std::byte> buffer;
    std::vector<std::byte> as_reported;
  };
  void check_watched(const Watched& watched) {
    const std::size_t size = watched.buffer.size();
    if (std::memcmp(watched.buffer.data(), watched.as_reported.data(), size) != 0) {
      violation("S1: bytes landed after the report");
    }
  }

  std::vector<std::string> violations_;
  std::deque<Watched> watched_;
  std::map<NamespaceId, Era> told_eras_;
};

}  // namespace membrain::sim
