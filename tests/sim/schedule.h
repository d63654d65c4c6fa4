// One seeded schedule: work and faults, the invariants after every event, then healing and quiet.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/cluster.h"
#include "tests/sim/engine.h"
#include "tests/sim/era_book.h"
#include "tests/sim/fences.h"
#include "tests/sim/holdings.h"
#include "tests/sim/ledger.h"
#include "tests/sim/rogue.h"

namespace membrain::sim {

/// S1: a fetch that says ok delivered exactly the block's bytes, and nothing lands afterwards.
/// S2: a slot is not reused while a live session pins it, nor between two terms (`Holdings`).
/// S3: at most one server leads a shard, each term has a later epoch, and no key is two shards'.
///     One whose lease was ended before its time may believe for a while that it leads: then
///     neither nodes nor clients go back to it from a later epoch, no era that a client was told of
///     is lost, and what it promises is kept.
/// S4: when everything is quiet, pins equal live holders, and catalogs what nodes have; a node that
///     dies leaves all answers, and one that says that it may go takes no block with it.
/// S5: where there are two tenants with the same prompts, no answer, slot or byte is the other's,
///     and who shows a proof that is not its own gets nothing (`Rogue`).
class Schedule {
 public:
  explicit Schedule(const Plan& plan);
  ~Schedule();

  /// Runs it to its end; the first violations in words, nothing if all is well.
  std::vector<std::string> run();
  [[nodiscard]] const Counts& counts() const noexcept { return ledger_.counts; }

 private:
  static constexpr Duration kRound = std::chrono::milliseconds(60);

  void count_faults();
  void witness(SimNetwork::Fate fate, std::span<const std::byte> frame);
  void tempt();
  [[nodiscard]] bool leads(std::size_t server, const Shard* shard);
  void draw_faults();
  void kill_something();
  void cut_something();
  void wake_nappers();
  [[nodiscard]] bool reads(const std::string& client) const;
  void cut_coordination();
  void end_lease(std::size_t server);
  void move_shards();
  void engage_idle_clients();
  /// Lets this much virtual time pass, checking after every event. False at the first violation.
  bool pass(Duration time);

  // What must be true: schedule_checks.cc.
  template <class Done>
  bool pass_until(Done done, Duration at_most, const char* what);
  void check_event();
  [[nodiscard]] std::uint64_t fingerprint_of_nodes();
  [[nodiscard]] std::uint64_t fingerprint(const Shard& shard) const;
  void check_shard(const Cluster::Led& led, std::uint64_t nodes);
  void check_ranges(const std::vector<Cluster::Led>& led);
  void note_term(const Cluster::Led& led);
  void check_eras(const Cluster::Led& led);
  void check_slots(const Shard& shard);
  void check_quiet();
  void check_catalog();
  void check_dead_node();
  void check_leaver();
  [[nodiscard]] std::uint64_t block_count() const;
  [[nodiscard]] bool pins_equal_holders();
  [[nodiscard]] std::string who_pins();
  void check_life_goes_on();
  void check_replicas();
  [[nodiscard]] bool all_resting() const;
  [[nodiscard]] bool chance(double probability) { return cluster_.random().chance(probability); }
  [[nodiscard]] std::size_t draw(std::size_t below) { return cluster_.random().below(below); }

  Plan plan_;
  Ledger ledger_;
  struct LastTerm {
    Epoch epoch;
    TimePoint start;
  };
  std::map<ShardId, LastTerm> last_terms_;
  std::map<ShardId, std::uint64_t> last_states_;
  std::set<std::pair<Epoch, Epoch>> rivals_;  ///< terms of one shard that were led at once
  std::map<NamespaceId, EraBook> eras_;
  std::vector<Cluster::Led> led_;            ///< of the last event; kept for its memory
  std::map<std::string, std::size_t> naps_;  ///< rounds left, by process
  Cluster cluster_;
  Holdings holdings_{cluster_, ledger_};
  Fences fences_{cluster_, ledger_};
  std::unique_ptr<Rogue> rogue_;                  ///< null without
  std::vector<std::shared_ptr<Engine>> engines_;  ///< by client
  std::vector<std::shared_ptr<Engine>> retired_;  ///< of lives that end; kept until they have
};

}  // namespace membrain::sim
