// The public request trace that replay reads: one JSON object per line, Mooncake's format.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/outcome.h"

namespace membrain {

inline constexpr std::uint32_t kTraceBlockTokens = 512;

/// One request to an engine.
struct TraceRequest {
  std::uint64_t timestamp_ms = 0;   ///< when it came, from the start of the trace
  std::uint64_t input_length = 0;   ///< tokens of the prompt
  std::uint64_t output_length = 0;  ///< tokens that were generated
  /// of the prompt's blocks of 512 tokens, the last perhaps not full; equal ids mean equal tokens
  /// up to and including that block
  std::vector<std::uint64_t> hash_ids;

  bool operator==(const TraceRequest&) const = default;
};

/// One line. Fields that are not ours are ignored; complaints say what is wrong with which field.
[[nodiscard]] Outcome<TraceRequest> parse_trace_line(std::string_view line);

/// At most `limit` requests of a file (0: all). Empty lines are skipped. Complaints name the file
/// and the line: "trace.jsonl:7: ...".
[[nodiscard]] Outcome<std::vector<TraceRequest>> read_trace(const std::string& path,
                                                            std::uint64_t limit);

/// How many different blocks the requests name.
[[nodiscard]] std::uint64_t distinct_blocks(const std::vector<TraceRequest>& requests);

/// Tokens that need no computing once the first `hit_blocks` blocks of a prompt are there.
[[nodiscard]] std::uint64_t tokens_saved(std::uint64_t hit_blocks, std::uint64_t input_length);

}  // namespace membrain
