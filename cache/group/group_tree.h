// Who passes blocks on to whom. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "protocol/group_messages.h"

namespace membrain {

/// The members to whom `rank` passes on what comes from `root`, in the order in which they are
/// served: those with the most behind them first. From every root each other member has exactly one
/// who passes to it.
///
/// chain     root, root + 1, ...: every byte leaves each member once, so that the whole bandwidth
///           is there; the last member waits for as many steps as there are members.
/// binomial  the root sends every byte once for each doubling, and the last member waits for as
///           many steps. After MPI's broadcast for short messages.
[[nodiscard]] std::vector<std::uint32_t> children_of(std::uint32_t rank, std::uint32_t root,
                                                     std::uint32_t size, wire::TreeShape shape);

/// A chain once there are so many chunks that filling it does not matter.
[[nodiscard]] wire::TreeShape shape_for(std::uint32_t size, std::size_t chunks) noexcept;

}  // namespace membrain
