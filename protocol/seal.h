// Seals: what every slot says about itself, in an array of their own beside the slots.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/ids.h"
#include "protocol/messages.h"

namespace membrain {

/// Where the slab of a slot lies, in units of the slot pool: lets a restart cut it the same way.
struct SlabPlace {
  std::uint32_t first_unit = 0;
  std::uint32_t units = 0;
  bool operator==(const SlabPlace&) const = default;
};

/// What a valid seal says.
struct SealContent {
  wire::SlotEntry entry;
  SlabPlace slab;
};

/// What is said of a slot that a process of this host fills in place (decision 17).
struct LentContent {
  SlotId slot;
  Generation generation;
  std::uint32_t length = 0;
  std::uint32_t slot_bytes = 0;
  SlabPlace slab;
  WriterId writer;
};

/// One seal as it lies in shared memory: 128 bytes, position = slot id. All zero is a free slot.
///
/// Written by the node's data loop only. Other processes may map it for reading: a reader takes the
/// state (acquire), the fields, and then state and generation again.
struct alignas(128) Seal {
  enum State : std::uint32_t { free = 0, writing = 1, sealed = 2, lent = 3 };

  std::atomic<std::uint32_t> state;
  std::uint32_t length;      ///< bytes
  std::uint32_t slot_bytes;  ///< of the slot's size class
  std::uint32_t depth;       ///< blocks before it in the prompt
  std::atomic<std::uint64_t> generation;
  std::uint64_t space;
  BlockKey key;
  BlockKey parent;
  Checksum checksum;
  std::uint32_t era;
  std::uint16_t part;
  std::uint8_t priority;
  std::uint8_t intent;
  SlabPlace slab;
  std::uint64_t self_check;  ///< of every field but the state
  std::uint64_t writer;      ///< who fills it, if lent; else 0
};
static_assert(sizeof(Seal) == 128);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

/// Writes a seal so that a torn one never reads as sealed: state `writing`, the fields, then state
/// `sealed` with release.
void write_seal(Seal& seal, const SealContent& content) noexcept;

/// What the seal at `slot` says; none if it is free, torn, or its self check fails.
[[nodiscard]] std::optional<SealContent> read_seal(const Seal& seal, SlotId slot) noexcept;

/// The same for a slot that is lent: who has it, and how it was cut, so that the node's next life
/// can leave it alone.
void write_lent(Seal& seal, const LentContent& content) noexcept;
[[nodiscard]] std::optional<LentContent> read_lent(const Seal& seal, SlotId slot) noexcept;

/// Breaks the seal under a new generation, with a release fence before anything that follows: a
/// reader that saw bytes of the next use also sees the other generation.
void clear_seal(Seal& seal, Generation next) noexcept;

}  // namespace membrain
