// Gives the requests of a trace to engine processes and adds up what they report.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "tools/child.h"
#include "tools/cluster.h"
#include "tools/engine.h"
#include "tools/outcome.h"
#include "tools/progress.h"
#include "tools/provenance.h"
#include "tools/signals.h"
#include "tools/totals.h"
#include "tools/trace.h"

namespace membrain {

struct DispatchConfig {
  std::string command;  ///< who speaks on stderr
  std::uint64_t instances = 1;
  bool in_order = false;  ///< one request after another, whoever plays it
  double speed = 0;       ///< of the trace's own time; 0: as fast as engines can
  EngineConfig engine;
  std::string log_level = "warn";
};

/// Request i goes to engine i mod N. Each engine plays its requests in their order, one at a time;
/// the next one waits at its door.
///
/// Ownership  Owns the engine processes; borrows the rest, which outlives it. Threads: one.
/// Errors     An engine that dies loses the request that it had; the others take over what is left.
///            A cluster that dies makes misses. Both are said on stderr.
class Dispatch {
 public:
  using Observer = std::function<void(std::size_t engine, const TraceRequest& request,
                                      const EngineReport& report)>;

  /// `cluster` may be null: then it is somebody else's.
  Dispatch(const std::vector<TraceRequest>& requests, DispatchConfig config, Signals& signals,
           LocalCluster* cluster, Observer observer);
  ~Dispatch();

  /// Starts the engines; returns when each has its session.
  Outcome<> start();
  /// Plays all requests. Complains if it was interrupted or no engine is left; what was done until
  /// then is in `totals` either way.
  Outcome<> run();
  /// Ends the engines.
  void finish();

  [[nodiscard]] const Totals& totals() const noexcept { return totals_; }

 private:
  static constexpr std::size_t kQueuedPerEngine = 2;

  struct Player {
    std::unique_ptr<Child> process;
    std::deque<std::size_t> waiting;  ///< requests, ascending
    std::deque<std::size_t> given;
    TimePoint heard;  ///< when it last reported, or got work after it had none
  };

  [[nodiscard]] bool due(std::size_t request, TimePoint now) const;
  void give_work(TimePoint now);
  void give(Player& player, TimePoint now);
  void wait_for_something();
  void listen_to_engines(TimePoint now);
  void take_report(std::size_t engine, const std::string& line, TimePoint now);
  void bury(std::size_t engine, const std::string& how);
  void look_after(TimePoint now);
  void show_progress(TimePoint now);
  void warn(const std::string& text);

  const std::vector<TraceRequest>& requests_;
  DispatchConfig config_;
  Signals& signals_;
  LocalCluster* cluster_;
  Observer observer_;
  std::vector<Player> players_;
  Provenance provenance_;
  Totals totals_;
  std::optional<Progress> progress_;
  bool playing_ = false;
  TimePoint began_;
  TimePoint next_look_;
  std::size_t under_way_ = 0;
  std::size_t over_ = 0;  ///< requests reported or lost
};

}  // namespace membrain
