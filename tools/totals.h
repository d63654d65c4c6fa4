// All that a replay counted, and how it is shown.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "tools/engine_wire.h"
#include "tools/histogram.h"

namespace membrain {

/// Sums of the reports of all engines.
///
/// `blocks_looked_up` = `blocks_hit` + the sum of `misses`: every block was fetched, or has a
/// reason why not.
struct Totals {
  std::uint64_t instances = 0;
  std::uint64_t requests = 0;
  std::uint64_t requests_lost = 0;  ///< given to an engine that died
  std::uint64_t engines_lost = 0;
  std::uint64_t blocks_looked_up = 0;
  std::uint64_t blocks_hit = 0;
  std::uint64_t blocks_hit_across_instances = 0;  ///< stored by another engine of this run
  std::uint64_t tokens_saved = 0;
  std::uint64_t tokens = 0;  ///< of all prompts
  std::uint64_t blocks_stored = 0;
  std::uint64_t blocks_duplicate = 0;
  std::uint64_t bytes_fetched = 0;
  std::uint64_t bytes_stored = 0;
  std::uint64_t wrong_bytes = 0;
  std::uint64_t fetching_ns = 0;  ///< all engines together
  std::chrono::nanoseconds elapsed{};
  Histogram lookup_ns;
  Histogram fetch_ns;  ///< of one request's hit prefix
  Histogram store_ns;  ///< of one request's new blocks
  Misses misses{};
  std::map<std::string, std::uint64_t> not_stored;
  std::map<std::string, std::uint64_t> lanes;

  void add(const EngineReport& report, std::uint64_t input_length);

  [[nodiscard]] double hit_ratio() const noexcept;
  /// While an engine fetches, how fast; one engine.
  [[nodiscard]] double fetch_gb_per_s() const noexcept;
};

/// One JSON object, indented, with a newline.
[[nodiscard]] std::string to_json(const Totals& totals);

/// An aligned table for people.
[[nodiscard]] std::string to_table(const Totals& totals);

}  // namespace membrain
