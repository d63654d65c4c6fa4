// Conversations made up from a seed: what the demo plays when no trace is given.
#pragma once

#include <cstdint>
#include <vector>

#include "tools/trace.h"

namespace membrain {

struct WorkloadConfig {
  std::uint64_t seed = 1;
  std::uint32_t requests = 200;
  std::uint32_t system_prompts = 3;  ///< kinds of assistants; their prompts are shared
  std::uint32_t conversations = 16;  ///< under way at once
  std::uint32_t turns = 6;           ///< of a conversation, on average
};

/// Requests of many conversations, mixed: each turn's prompt is all that was said before it in its
/// conversation, and something new. Equal configurations give equal requests.
[[nodiscard]] std::vector<TraceRequest> make_workload(const WorkloadConfig& config);

}  // namespace membrain
