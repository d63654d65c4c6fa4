// Size classes: the few sizes in which slots are cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "protocol/arena_header.h"

namespace membrain {

/// The largest block part that a node keeps.
inline constexpr std::uint32_t kLargestSlotBytes = 64u << 20;

/// Slot sizes in ascending order: 4 KiB x {1, 1.25, 1.5, 1.75} x 2^k, rounded up to whole pages, up
/// to kLargestSlotBytes. From 16 KiB on a block wastes at most a fifth of its slot.
[[nodiscard]] std::span<const std::uint32_t> size_classes() noexcept;

/// Index of the smallest class that holds `length` bytes; none for 0 and above kLargestSlotBytes.
[[nodiscard]] std::optional<std::size_t> size_class_of(std::uint32_t length) noexcept;

}  // namespace membrain
