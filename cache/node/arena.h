// Arena: the memory of a node, as a file that outlives its process.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/ids.h"
#include "cache/node/size_classes.h"
#include "membrain/result.h"
#include "protocol/arena_header.h"
#include "protocol/seal.h"
#include "transport/descriptor.h"

namespace membrain {

struct ArenaConfig {
  std::string name = "node";           ///< 1 to 64 of [A-Za-z0-9._-]; the file is membrain-<name>
  std::uint64_t capacity_bytes = 0;    ///< of the slots alone; rounded down to whole pages of 4 KiB
  bool fresh = false;                  ///< forget what an earlier life left there
  std::string directory = "/dev/shm";  ///< a tmpfs, or a hugetlbfs: capacity is rounded up there
};

/// Slots, their seals, and a header that says whose they are: one mapping.
///
///     header, 1 page | seals, 128 bytes a page of slots | slots, aligned to 2 MiB
///
/// A named arena is a shared-memory file, locked for as long as the Arena lives. What an earlier
/// life left in it is adopted (`adopted()`) if its header is sound and its capacity the same.
///
/// Ownership  Owns the mapping, the file descriptor and the lock; the file stays behind.
/// Threads    One thread at a time; the generation counter and seals may be read by any process.
/// Cost       `open` takes and maps all its memory, so that no later access can fail or wait for a
///            page: about half a second per GiB when it is made, less when adopted. Resident memory
///            is the capacity, 1/32 of it for seals, and a page; on a hugetlbfs whole huge pages.
/// Errors     Each is also logged with its figures. `invalid_argument`: capacity 0, a bad name, or
///            an arena of another capacity (`--fresh` removes it). `unavailable`: another node
///            holds the name. `out_of_capacity`: too little shared memory, or too few huge pages.
///            `corrupt`: the header is not an arena's (`--fresh` removes it). `denied`: the file
///            cannot be opened safely.
class Arena {
 public:
  static constexpr std::uint64_t kMaxCapacityBytes = std::uint64_t{8} << 40;

  static Result<std::unique_ptr<Arena>> open(const ArenaConfig& config);
  /// Memory of this process alone, reserved lazily: for tests and the simulator. `node` 0: random.
  static Result<std::unique_ptr<Arena>> anonymous(std::uint64_t capacity_bytes, NodeId node = {});

  /// What a crash at this moment would leave, as an anonymous arena: for tests and the simulator.
  [[nodiscard]] std::unique_ptr<Arena> copy() const;

  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  [[nodiscard]] NodeId node() const noexcept;
  /// Counts the lives of processes that served this arena; 0 before the first `begin_life`.
  [[nodiscard]] Incarnation incarnation() const noexcept;
  /// A node starts to serve: the next incarnation.
  Incarnation begin_life() noexcept;
  /// An earlier life may have left sealed slots.
  [[nodiscard]] bool adopted() const noexcept { return adopted_; }

  /// The file, opened once more and without the lock, for another process to read: `unavailable`
  /// for an anonymous arena.
  [[nodiscard]] Result<Descriptor> share() const { return open_again(false); }
  /// The same for writing, by a new writer: it is alive until nobody has this file, nor a mapping
  /// made from it, whatever becomes of this process (the file's description holds a lock).
  struct Writable {
    Descriptor file;
    WriterId writer;
  };
  [[nodiscard]] Result<Writable> share_writable() const;
  /// Somebody may still write by what that writer was given, in this life or an earlier one.
  [[nodiscard]] bool writer_alive(WriterId writer) const noexcept;
  /// All of it, as others map it.
  [[nodiscard]] std::span<const std::byte> mapping() const noexcept { return mapping_; }

  /// Every slot use takes the next one; none is ever given twice.
  [[nodiscard]] std::atomic<std::uint64_t>& generations() noexcept;
  [[nodiscard]] Generation next_generation() noexcept { return {generations().fetch_add(1) + 1}; }

  /// An earlier life has given this one.
  void know(Generation given) noexcept;

  [[nodiscard]] std::uint64_t capacity_bytes() const noexcept { return slots_.size(); }
  [[nodiscard]] std::span<std::byte> slots() const noexcept { return slots_; }
  [[nodiscard]] std::span<Seal> seals() const noexcept { return seals_; }
  [[nodiscard]] Seal& seal(SlotId slot) const noexcept { return seals_[slot.value]; }
  /// The first `length` bytes of a slot; it must lie inside the arena.
  [[nodiscard]] std::span<std::byte> memory(SlotId slot, std::size_t length) const noexcept;

 private:
  struct Layout;
  Arena() = default;

  [[nodiscard]] Result<Descriptor> open_again(bool writable) const;
  Result<> create(const Layout& layout, const ArenaConfig& config);
  Result<> map(int fd, const Layout& layout);
  Result<> reserve(const Layout& layout, const ArenaConfig& config);
  static Result<> too_few_huge_pages(const Layout& layout, const ArenaConfig& config);
  void populate(const Layout& layout, int advice) noexcept;
  void format(const Layout& layout, NodeId node) noexcept;
  Result<> adopt(const Layout& layout, const std::string& path);

  Descriptor file_;  ///< holds the lock; none if anonymous
  std::span<std::byte> mapping_;
  ArenaHeader* header_ = nullptr;
  std::span<Seal> seals_;
  std::span<std::byte> slots_;
  bool adopted_ = false;
};

}  // namespace membrain
