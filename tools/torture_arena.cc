#include "tools/torture_arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "transport/descriptor.h"

namespace membrain {

TortureArena::TortureArena(std::span<std::byte> mapping) noexcept : mapping_(mapping) {
  const auto* const header = reinterpret_cast<const ArenaHeader*>(mapping.data());
  slots_ = mapping.subspan(header->slots_offset, header->capacity_bytes);
  seals_ = {reinterpret_cast<Seal*>(mapping.data() + header->seals_offset),
            header->capacity_bytes / kPageBytes};
}

TortureArena::TortureArena(TortureArena&& other) noexcept
    : mapping_(std::exchange(other.mapping_, {})), seals_(other.seals_), slots_(other.slots_) {}

TortureArena::~TortureArena() {
  if (!mapping_.empty()) ::munmap(mapping_.data(), mapping_.size());
}

Outcome<TortureArena> TortureArena::open(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  struct stat about {};
  if (!file || ::fstat(file.fd(), &about) != 0) {
    return complain("{} cannot be opened: {}", path, std::strerror(errno));
  }
  const auto size = static_cast<std::size_t>(about.st_size);
  if (size < sizeof(ArenaHeader)) return complain("{} is no arena", path);
  void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd(), 0);
  if (memory == MAP_FAILED) return complain("{} cannot be mapped: {}", path, std::strerror(errno));
  const auto* const header = static_cast<const ArenaHeader*>(memory);
  const bool fits = header->sound() && header->slots_offset <= size &&
                    header->capacity_bytes <= size - header->slots_offset;
  if (!fits) {
    ::munmap(memory, size);
    return complain("{} is no arena", path);
  }
  return TortureArena({static_cast<std::byte*>(memory), size});
}

SlotStates TortureArena::states() const noexcept {
  SlotStates states;
  for (const Seal& seal : seals_) {
    const std::uint32_t state = seal.state.load(std::memory_order_acquire);
    states.sealed += state == Seal::sealed ? 1 : 0;
    states.writing += state == Seal::writing ? 1 : 0;
    states.lent += state == Seal::lent ? 1 : 0;
  }
  return states;
}

std::optional<TortureArena::Spoiled> TortureArena::spoil(
    std::mt19937_64& random, const std::function<bool(const SealContent&)>& wanted) {
  std::vector<SealContent> sealed;
  for (std::uint32_t slot = 0; slot < seals_.size(); ++slot) {
    const std::optional<SealContent> seal = read_seal(seals_[slot], SlotId{slot});
    if (seal && wanted(*seal)) sealed.push_back(*seal);
  }
  if (sealed.empty()) return std::nullopt;
  Spoiled spoiled{sealed[random() % sealed.size()]};
  const wire::SlotEntry& entry = spoiled.seal.entry;
  const std::size_t offset =
      std::size_t{entry.slot.value} * kPageBytes + random() % std::max(1U, entry.length);
  const auto bit = std::byte{static_cast<std::uint8_t>(1U << (random() % 8))};
  slots_[offset] ^= bit;
  const Seal& seal = seals_[entry.slot.value];
  const bool same = seal.state.load(std::memory_order_acquire) == Seal::sealed &&
                    seal.generation.load(std::memory_order_acquire) == entry.generation.value;
  if (!same) slots_[offset] ^= bit, spoiled.undone = true;
  return spoiled;
}

}  // namespace membrain
