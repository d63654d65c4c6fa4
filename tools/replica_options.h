// How many replicas a server keeps of blocks, as options.
#pragma once

#include <cstdint>
#include <string>

#include "server/replica_rule.h"
#include "tools/command.h"
#include "tools/outcome.h"

namespace membrain {

struct CopyOptions {
  std::uint64_t replicas = 1;
  std::string zone_rule = "any";
  std::uint64_t repair_bandwidth = CopyLimits{}.bytes_per_second;
  std::uint64_t hot_lookups = CopyLimits{}.hot_lookups;

  /// Adds them to `command`.
  void bind(Command& command);
  /// Complains about what makes no sense.
  [[nodiscard]] Outcome<ReplicaRule> rule() const;
  [[nodiscard]] CopyLimits limits() const noexcept;
};

}  // namespace membrain
