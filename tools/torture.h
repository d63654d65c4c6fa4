// A torture run from beginning to end: a cluster, engines, faults, quiet, and a judgement.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tools/history_book.h"
#include "tools/outcome.h"
#include "tools/progress.h"
#include "tools/signals.h"
#include "tools/torture_faults.h"
#include "tools/torture_house.h"
#include "tools/torture_load.h"
#include "tools/torture_report.h"
#include "tools/torture_watch.h"

namespace membrain {

struct TortureOptions {
  std::chrono::milliseconds length{0};  ///< of the load
  std::uint64_t seed = 0;               ///< 0: random
  TortureHouseConfig house;
  std::uint64_t engines = 4;
  std::uint64_t block_bytes = 65536;
  std::chrono::milliseconds timeout{2000};
};

/// Ownership  Owns everything of the run. Threads: one.
class Torture {
 public:
  static constexpr std::chrono::seconds kPatience{60};  ///< until all are well again

  Torture(const TortureOptions& options, Signals& signals, TortureReport& report);
  ~Torture();

  /// Complains if it could not be run, or was interrupted; what it found is in the report.
  Outcome<> run();

 private:
  Outcome<> start();
  Outcome<> hurt(TimePoint end);
  [[nodiscard]] std::chrono::milliseconds draw_calm();
  Outcome<> quiesce();
  /// What nobody uses any more is judged and forgotten: memory does not grow with the run.
  void judge_old(TimePoint now);
  void judge();
  /// Lets engines work until then, or until `enough`.
  void pass(TimePoint until, const std::function<bool()>& enough);
  void pass(std::chrono::milliseconds time);
  [[nodiscard]] bool become_well();
  void look(TimePoint now);
  void show(TimePoint now);
  void note_descriptors();
  void check_pins();
  void check_sessions();
  void check_slots();
  void check_descriptors();
  void check_shared_memory();
  void leak(std::uint64_t count, std::string text);
  [[nodiscard]] std::uint64_t counter(const std::string& name) const;
  [[nodiscard]] SlotStates slots() const;
  [[nodiscard]] std::string logs() const;

  TortureOptions options_;
  Signals& signals_;
  TortureReport& report_;
  HistoryBook book_;
  TortureWatch watch_;
  TortureBlocks blocks_;
  std::unique_ptr<TortureHouse> house_;
  std::unique_ptr<TortureLoad> load_;
  std::unique_ptr<TortureFaults> faults_;
  std::unique_ptr<Progress> progress_;
  std::mt19937_64 random_;
  TimePoint began_;  ///< to hurt
  TimePoint next_look_;
  std::uint64_t calms_ = 0;
  std::size_t told_ = 0;                ///< of what is wrong, on stderr
  std::size_t server_descriptors_ = 0;  ///< at most, before there were engines
  std::size_t node_descriptors_ = 0;
  std::uint64_t died_ = 0;
};

}  // namespace membrain
