// What replay and its engine processes say to each other: one JSON object per line.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tools/outcome.h"

namespace membrain {

/// Why a block had to be computed.
enum class Miss : std::uint8_t {
  unknown,    ///< nobody has stored it, or it was evicted
  stale,      ///< its slot was reused between lookup and fetch
  corrupt,    ///< its bytes failed their check and were not used
  peer_lost,  ///< the server or the node could not be reached
  timeout,    ///< the deadline passed
};
inline constexpr std::array<std::string_view, 5> kMissNames{"unknown", "stale", "corrupt",
                                                            "peer_lost", "timeout"};
using Misses = std::array<std::uint64_t, kMissNames.size()>;

/// A request as an engine gets it.
struct EngineTask {
  std::uint64_t index = 0;  ///< in the trace
  std::uint64_t input_length = 0;
  std::vector<std::uint64_t> hash_ids;
};

/// What became of it.
struct EngineReport {
  std::uint64_t index = 0;
  std::uint64_t blocks_looked_up = 0;
  std::uint64_t blocks_hit = 0;     ///< fetched and accepted by the reader's check
  std::uint64_t prefix_blocks = 0;  ///< of them, those before the first miss
  std::uint64_t tokens_saved = 0;
  std::uint64_t bytes_fetched = 0;
  std::uint64_t wrong_bytes = 0;  ///< of bytes_fetched: differ from what was stored
  std::uint64_t blocks_stored = 0;
  std::uint64_t blocks_duplicate = 0;  ///< another engine was faster
  std::uint64_t bytes_stored = 0;
  std::uint64_t lookup_ns = 0;  ///< 0: none was made, or it failed; so for fetch and store
  std::uint64_t fetch_ns = 0;
  std::uint64_t store_ns = 0;
  Misses misses{};
  std::map<std::string, std::uint64_t> not_stored;  ///< blocks by reason
  std::map<std::string, std::uint64_t> lanes;       ///< bytes either way

  bool operator==(const EngineReport&) const = default;
};

[[nodiscard]] std::string to_line(const EngineTask& task);
[[nodiscard]] std::string to_line(const EngineReport& report);
[[nodiscard]] Outcome<EngineTask> task_from_line(std::string_view line);
[[nodiscard]] Outcome<EngineReport> report_from_line(std::string_view line);

/// The first line of an engine that can take tasks.
inline constexpr std::string_view kEngineReady = "ready";

}  // namespace membrain
