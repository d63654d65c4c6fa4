#include "protocol/seal.h"

#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "base/checksum.h"

namespace membrain {

namespace {

/// Over the seal's bytes from `length` up to the check itself, and over its position, so that a
/// seal copied to another slot is not valid there.
std::uint64_t self_check_of(const Seal& seal, SlotId slot) noexcept {
  constexpr std::size_t kFrom = offsetof(Seal, length);
  constexpr std::size_t kTo = offsetof(Seal, self_check);
  std::array<std::byte, kTo - kFrom + sizeof(slot.value)> bytes;
  std::memcpy(bytes.data(), reinterpret_cast<const std::byte*>(&seal) + kFrom, kTo - kFrom);
  std::memcpy(bytes.data() + (kTo - kFrom), &slot.value, sizeof(slot.value));
  return checksum(bytes).low ^ seal.writer;
}

void finish_seal(Seal& seal, SlotId slot, Seal::State state) noexcept {
  seal.self_check = self_check_of(seal, slot);
  seal.state.store(state, std::memory_order_release);
}

}  // namespace

void write_seal(Seal& seal, const SealContent& content) noexcept {
  const wire::SlotEntry& entry = content.entry;
  seal.state.store(Seal::writing, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  seal.generation.store(entry.generation.value, std::memory_order_relaxed);
  seal.length = entry.length;
  seal.slot_bytes = entry.slot_bytes;
  seal.depth = entry.meta.depth;
  seal.space = entry.meta.space.value;
  seal.key = entry.meta.key;
  seal.parent = entry.meta.parent;
  seal.checksum = entry.checksum;
  seal.era = entry.meta.era.value;
  seal.part = entry.meta.part;
  seal.priority = entry.meta.priority;
  seal.intent = static_cast<std::uint8_t>(entry.meta.intent);
  seal.slab = content.slab;
  seal.writer = 0;
  finish_seal(seal, entry.slot, Seal::sealed);
}

void write_lent(Seal& seal, const LentContent& content) noexcept {
  seal.state.store(Seal::writing, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  seal.generation.store(content.generation.value, std::memory_order_relaxed);
  seal.length = content.length;
  seal.slot_bytes = content.slot_bytes;
  seal.slab = content.slab;
  seal.writer = content.writer.value;
  finish_seal(seal, content.slot, Seal::lent);
}

std::optional<LentContent> read_lent(const Seal& seal, SlotId slot) noexcept {
  if (seal.state.load(std::memory_order_acquire) != Seal::lent) return std::nullopt;
  if (seal.self_check != self_check_of(seal, slot)) return std::nullopt;
  LentContent content;
  content.slot = slot;
  content.generation = Generation{seal.generation.load(std::memory_order_relaxed)};
  content.length = seal.length;
  content.slot_bytes = seal.slot_bytes;
  content.slab = seal.slab;
  content.writer = WriterId{seal.writer};
  return content;
}

std::optional<SealContent> read_seal(const Seal& seal, SlotId slot) noexcept {
  if (seal.state.load(std::memory_order_acquire) != Seal::sealed) return std::nullopt;
  if (seal.self_check != self_check_of(seal, slot)) return std::nullopt;
  if (seal.intent > static_cast<std::uint8_t>(wire::StoreIntent::replica)) return std::nullopt;
  if (seal.writer != 0) return std::nullopt;  // such a seal is never written
  SealContent content;
  wire::SlotEntry& entry = content.entry;
  entry.meta.space = NamespaceId{seal.space};
  entry.meta.era = Era{seal.era};
  entry.meta.key = seal.key;
  entry.meta.parent = seal.parent;
  entry.meta.depth = seal.depth;
  entry.meta.part = seal.part;
  entry.meta.priority = seal.priority;
  entry.meta.intent = static_cast<wire::StoreIntent>(seal.intent);
  entry.slot = slot;
  entry.generation = Generation{seal.generation.load(std::memory_order_relaxed)};
  entry.length = seal.length;
  entry.slot_bytes = seal.slot_bytes;
  entry.checksum = seal.checksum;
  content.slab = seal.slab;
  return content;
}

void clear_seal(Seal& seal, Generation next) noexcept {
  seal.generation.store(next.value, std::memory_order_relaxed);
  seal.state.store(Seal::free, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
}

}  // namespace membrain
