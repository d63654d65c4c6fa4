// Kinds of schedules: how a cluster is treated.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "tests/sim/cluster.h"

namespace membrain::sim {

struct PlanKind {
  std::string_view name;
  Plan (*make)(std::uint64_t seed);
};

/// Those that schedules of all kinds take turns with.
[[nodiscard]] std::span<const PlanKind> plan_kinds();
/// "large", too. Null if there is none of that name.
[[nodiscard]] const PlanKind* plan_kind(std::string_view name);
/// The schedule of this seed: one seed of one kind is always the same.
[[nodiscard]] Plan plan_of(const PlanKind& kind, std::uint64_t seed);

}  // namespace membrain::sim
