#include "cache/client/mapped_arena.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>

#include "base/copy.h"

namespace membrain {

namespace {

/// An arena's three parts lie in a file of `size` bytes, one behind the other, and every slot has a
/// seal.
bool lies_within(const ArenaHeader& header, std::uint64_t size) noexcept {
  if (header.capacity_bytes % kPageBytes != 0) return false;
  if (header.capacity_bytes > size || header.slots_offset > size - header.capacity_bytes) {
    return false;
  }
  const std::uint64_t seals_bytes = header.capacity_bytes / kPageBytes * sizeof(Seal);
  return header.seals_offset >= sizeof(ArenaHeader) && header.seals_offset % sizeof(Seal) == 0 &&
         header.seals_offset <= header.slots_offset &&
         seals_bytes <= header.slots_offset - header.seals_offset;
}

}  // namespace

Result<std::shared_ptr<const MappedArena>> MappedArena::map(const Descriptor& file, NodeId node,
                                                            Incarnation life) {
  struct stat status {};
  if (::fstat(file.fd(), &status) != 0 || !S_ISREG(status.st_mode) ||
      status.st_size < static_cast<off_t>(kPageBytes)) {
    return fail(Errc::corrupt, "a node handed out what is no arena");
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.fd(), 0);
  if (memory == MAP_FAILED) return fail(Errc::out_of_capacity, "the arena's mmap", errno);
  std::shared_ptr<const void> owner(memory,
                                    [memory, size](const void*) { ::munmap(memory, size); });
  return over({static_cast<const std::byte*>(memory), size}, std::move(owner), node, life);
}

Result<std::shared_ptr<const MappedArena>> MappedArena::over(std::span<const std::byte> memory,
                                                             std::shared_ptr<const void> owner,
                                                             NodeId node, Incarnation life) {
  if (memory.size() < kPageBytes) return fail(Errc::corrupt, "too short for an arena");
  const auto* header = reinterpret_cast<const ArenaHeader*>(memory.data());
  if (!header->sound() || !lies_within(*header, memory.size())) {
    return fail(Errc::corrupt, "an arena's header");
  }
  if (header->node != node.value || header->incarnation.load() != life.value) {
    return fail(Errc::stale, "an arena of another node, or of another life");
  }
  std::shared_ptr<MappedArena> arena(new MappedArena);
  arena->owner_ = std::move(owner);
  arena->header_ = header;
  arena->seals_ = {reinterpret_cast<const Seal*>(memory.data() + header->seals_offset),
                   header->capacity_bytes / kPageBytes};
  arena->slots_ = memory.subspan(header->slots_offset, header->capacity_bytes);
  arena->node_ = node;
  arena->life_ = life;
  return std::shared_ptr<const MappedArena>(std::move(arena));
}

bool MappedArena::inside(const Location& at) const noexcept {
  const std::uint64_t offset = std::uint64_t{at.slot.value} * kPageBytes;
  return offset < slots_.size() && at.length <= slots_.size() - offset;
}

void MappedArena::prefetch(const Location& at) const noexcept {
  if (at.slot.value < seals_.size()) __builtin_prefetch(&seals_[at.slot.value]);
}

bool MappedArena::holds(const BlockPart& name, const Location& at) const noexcept {
  if (at.node != node_ || at.incarnation != life_ || !inside(at)) return false;
  if (header_->incarnation.load(std::memory_order_acquire) != life_.value) return false;
  const Seal& seal = seals_[at.slot.value];
  return seal.state.load(std::memory_order_acquire) == Seal::sealed &&
         seal.generation.load(std::memory_order_relaxed) == at.generation.value &&
         seal.space == name.space.value && seal.key == name.key && seal.part == name.part &&
         seal.length == at.length;
}

bool MappedArena::still_holds(const Location& at) const noexcept {
  std::atomic_thread_fence(std::memory_order_acquire);
  const Seal& seal = seals_[at.slot.value];
  return seal.state.load(std::memory_order_relaxed) == Seal::sealed &&
         seal.generation.load(std::memory_order_relaxed) == at.generation.value &&
         header_->incarnation.load(std::memory_order_relaxed) == life_.value;
}

std::span<const std::byte> MappedArena::bytes(const Location& at, std::uint32_t offset,
                                              std::uint32_t length) const noexcept {
  return slots_.subspan(std::uint64_t{at.slot.value} * kPageBytes + offset, length);
}

bool copy_part(const MappedArena& arena, const BlockPart& name, const Location& at,
               std::uint32_t offset, const Place& into, bool sum) noexcept {
  if (!arena.holds(name, at) || offset > at.length || into.size_bytes() > at.length - offset) {
    return false;
  }
  std::span<const std::byte> from =
      arena.bytes(at, offset, static_cast<std::uint32_t>(into.size_bytes()));
  const CopyWay way = copy_way(from.size());
  HashedCopy hashed(way);
  into.for_each_piece([&](std::byte* to, std::size_t size) {
    if (sum) {
      hashed.add(to, from.first(size));
    } else {
      copy_run(to, from.first(size), way);
    }
    from = from.subspan(size);
  });
  const bool intact = !sum || hashed.finish() == at.checksum;
  fence_streams();
  return arena.still_holds(at) && intact;
}

}  // namespace membrain
