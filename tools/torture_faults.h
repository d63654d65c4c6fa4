// What a torture run does to its processes, one after the other, in an order of the seed.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/key.h"
#include "tools/history_book.h"
#include "tools/torture_blocks.h"
#include "tools/torture_house.h"
#include "tools/torture_load.h"
#include "tools/torture_report.h"
#include "tools/torture_watch.h"

namespace membrain {

/// Ownership  Borrows everything. Threads: one.
class TortureFaults {
 public:
  TortureFaults(TortureHouse& house, TortureLoad& load, HistoryBook& book, TortureWatch& watch,
                TortureReport& report, TortureBlocks blocks, std::uint64_t seed);

  /// Begins the next one; how long it is to last. Zero: there was no victim.
  std::chrono::milliseconds begin();
  /// Ends it: what was stopped goes on, what was killed is started.
  Outcome<> heal();
  /// All are well again.
  void over(TimePoint now);

 private:
  struct Kind {
    std::string_view name;
    bool (TortureFaults::*begin)();
    Outcome<> (TortureFaults::*heal)();
    std::chrono::milliseconds shortest;
    std::chrono::milliseconds longest;
    enum class Effect : std::uint8_t { none, hides, ends_pins } effect;
    bool needs_etcd = false;
    bool needs_followers = false;
  };
  static const std::vector<Kind>& kinds();

  [[nodiscard]] std::size_t draw(std::size_t below) { return random_() % below; }
  void shuffle();

  bool kill_node();
  bool stop_node();
  bool kill_leader();
  bool stop_leader();
  bool kill_follower();
  bool kill_engine();
  bool stop_engine();
  bool kill_member();
  bool stop_member();
  bool lose_quorum();
  bool spoil_bytes();
  Outcome<> start_victim();
  Outcome<> wake_victim();
  Outcome<> start_engine();
  Outcome<> wake_engine();
  Outcome<> start_members();
  Outcome<> nothing();

  bool kill(Resident& victim);
  bool stop(Resident& victim);
  [[nodiscard]] std::vector<std::pair<std::uint32_t, std::uint64_t>> live_blocks() const;

  TortureHouse& house_;
  TortureLoad& load_;
  HistoryBook& book_;
  TortureWatch& watch_;
  TortureReport& report_;
  TortureBlocks blocks_;
  std::mt19937_64 random_;
  std::vector<KeyMaker> keys_;  ///< by namespace
  std::vector<const Kind*> coming_;
  const Kind* kind_ = nullptr;  ///< of the one that lasts
  TimePoint began_;
  Resident* victim_ = nullptr;
  std::size_t engine_ = 0;
};

}  // namespace membrain
