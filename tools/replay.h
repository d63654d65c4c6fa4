// A replay from beginning to end: a cluster if none is given, engines, requests, figures.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "tools/dispatch.h"
#include "tools/outcome.h"
#include "tools/program.h"
#include "tools/totals.h"
#include "tools/trace.h"

namespace membrain {

struct ReplayOptions {
  static constexpr std::uint64_t kEnoughForAll = UINT64_MAX;

  std::string command = "replay";  ///< who speaks on stderr
  std::string trace;
  std::uint64_t requests = 0;  ///< of the trace; 0: all
  std::uint64_t instances = 1;
  std::uint64_t nodes = 1;  ///< of a cluster that is started for the replay
  bool in_order = false;
  double speed = 0;  ///< 0: as fast as engines can
  std::uint64_t block_bytes = 65536;
  std::string server;                            ///< empty: a cluster is started
  std::uint64_t capacity_bytes = kEnoughForAll;  ///< of all nodes together
  std::string space = "replay";
  std::chrono::milliseconds timeout{10000};
  bool one_sided_reads = false;
  bool verify = true;
};

/// Complains about options that make no sense.
[[nodiscard]] Outcome<> check_options(const ReplayOptions& options);

/// Plays `requests`. `totals` holds what was counted, also when the outcome is a complaint.
[[nodiscard]] Outcome<> play(Program& program, const ReplayOptions& options,
                             const std::vector<TraceRequest>& requests,
                             const Dispatch::Observer& observer, Totals& totals);

/// What replay and demo share of the options.
void bind_replay_options(Command& command, ReplayOptions& options);

}  // namespace membrain
