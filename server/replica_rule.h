// How many replicas of a block are wanted, where, and what that may cost.
#pragma once

#include <cstdint>

#include "protocol/messages.h"

namespace membrain {

/// Of one namespace.
struct ReplicaRule {
  std::uint8_t replicas = 1;  ///< wanted of each block: 1 to wire::kMaxReplicas
  wire::ZoneRule zones = wire::ZoneRule::any;
  bool operator==(const ReplicaRule&) const = default;
};

struct CopyLimits {
  std::uint64_t bytes_per_second = std::uint64_t{256} << 20;  ///< of copies begun in the cluster
  /// lookups of late (halved every second) for which a block gets one more replica; 0: never
  std::uint32_t hot_lookups = 256;
};

}  // namespace membrain
