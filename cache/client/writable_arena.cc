#include "cache/client/writable_arena.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "protocol/arena_header.h"

namespace membrain {

namespace {

constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE

/// The first page, as it is in the file.
struct alignas(ArenaHeader) HeaderBytes {
  std::byte bytes[sizeof(ArenaHeader)];
};

}  // namespace

Result<std::shared_ptr<const WritableArena>> WritableArena::map(const Descriptor& file, NodeId node,
                                                                Incarnation life, WriterId writer) {
  struct stat status {};
  HeaderBytes raw;
  if (::fstat(file.fd(), &status) != 0 || !S_ISREG(status.st_mode) ||
      ::pread(file.fd(), raw.bytes, sizeof raw.bytes, 0) != sizeof raw.bytes) {
    return fail(Errc::corrupt, "a node handed out what is no arena");
  }
  const auto* header = reinterpret_cast<const ArenaHeader*>(raw.bytes);
  const auto size = static_cast<std::uint64_t>(status.st_size);
  const bool inside =
      header->capacity_bytes <= size && header->slots_offset <= size - header->capacity_bytes;
  if (!header->sound() || !inside || header->slots_offset % kPageBytes != 0) {
    return fail(Errc::corrupt, "an arena's header");
  }
  if (header->node != node.value || header->incarnation.load() != life.value || !writer) {
    return fail(Errc::stale, "an arena of another node, or of another life");
  }
  std::shared_ptr<WritableArena> arena(new WritableArena);
  void* memory = ::mmap(nullptr, header->capacity_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                        file.fd(), static_cast<off_t>(header->slots_offset));
  if (memory == MAP_FAILED) return fail(Errc::out_of_capacity, "the arena's mmap", errno);
  // A child that is forked must not keep the writer alive.
  static_cast<void>(::madvise(memory, header->capacity_bytes, MADV_DONTFORK));
  arena->slots_ = {static_cast<std::byte*>(memory), header->capacity_bytes};
  const std::size_t parts = (header->capacity_bytes + kPrepareBytes - 1) / kPrepareBytes;
  arena->prepared_ = std::make_unique<std::atomic<bool>[]>(parts);
  arena->node_ = node;
  arena->life_ = life;
  arena->writer_ = writer;
  return std::shared_ptr<const WritableArena>(std::move(arena));
}

WritableArena::~WritableArena() {
  if (!slots_.empty()) ::munmap(slots_.data(), slots_.size());
}

std::span<std::byte> WritableArena::bytes(const wire::SlotRef& at,
                                          std::uint32_t length) const noexcept {
  const std::uint64_t offset = std::uint64_t{at.slot.value} * kPageBytes;
  if (offset >= slots_.size() || length > slots_.size() - offset) return {};
  return slots_.subspan(offset, length);
}

void WritableArena::prepare(std::span<const std::byte> slot) const noexcept {
  if (slot.empty()) return;
  const auto from = static_cast<std::size_t>(slot.data() - slots_.data());
  for (std::size_t part = from / kPrepareBytes; part * kPrepareBytes < from + slot.size(); ++part) {
    if (prepared_[part].exchange(true, std::memory_order_relaxed)) continue;
    const std::size_t at = part * kPrepareBytes;
    const std::size_t size = std::min(kPrepareBytes, slots_.size() - at);
    // What it cannot do is done page by page.
    static_cast<void>(::madvise(slots_.data() + at, size, kPopulateWrite));
  }
}

void WritableArena::begin(const wire::ReservedSlots& lent) const {
  const std::lock_guard lock(mutex_);
  for (const wire::ReservedItem& item : lent.items) {
    if (item.status == wire::ItemStatus::ok) writing_.insert(item.at.generation);
  }
}

void WritableArena::end(std::span<const wire::SlotRef> slots) const {
  const std::lock_guard lock(mutex_);
  for (const wire::SlotRef& at : slots) writing_.erase(at.generation);
}

std::vector<wire::SlotRef> WritableArena::idle_of(const std::vector<wire::SlotRef>& lost) const {
  std::vector<wire::SlotRef> idle;
  const std::lock_guard lock(mutex_);
  for (const wire::SlotRef& at : lost) {
    if (!writing_.contains(at.generation)) idle.push_back(at);
  }
  return idle;
}

}  // namespace membrain
