// Slot pool: which slots of an arena are free, cut by demand into size classes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "membrain/result.h"
#include "protocol/messages.h"
#include "protocol/seal.h"

namespace membrain {

/// A slot in use.
struct Slot {
  SlotId id;
  Generation generation;
  std::uint32_t slot_bytes = 0;
  SlabPlace slab;
};

/// What to ask the shard for: `count` victims of a size class, and `candidates`, all slots of a
/// slab that another class is to get.
struct Need {
  std::uint32_t slot_bytes = 0;
  std::uint32_t count = 0;
  std::vector<wire::SlotRef> candidates;
};

struct ClassCount {
  std::uint32_t slot_bytes = 0;
  std::uint64_t used_slots = 0;
  std::uint64_t free_slots = 0;  ///< in the slabs that the class has
};

/// The arena's memory in units of 2 MiB (less in small arenas). A size class takes a *slab*, a run
/// of units, when it first needs one and gives it back when it is empty; slots are cut from slabs.
///
/// Pure: no memory is touched, no time is read. A slot is in use from `allocate` (or `adopt`) to
/// `free`, whatever its owner does with it meanwhile, and is never handed out in between.
///
/// Threads  One.
/// Cost     `allocate` and `free` are constant but for opening a slab; `needs` walks all slabs.
class SlotPool {
 public:
  /// `generations` is the arena's counter: every `allocate` takes the next.
  SlotPool(std::uint64_t capacity_bytes, std::atomic<std::uint64_t>& generations);
  ~SlotPool();
  SlotPool(const SlotPool&) = delete;
  SlotPool& operator=(const SlotPool&) = delete;

  /// A slot of the smallest class that holds `length`. `invalid_argument` if none does,
  /// `out_of_capacity` if it has no free one: the miss is remembered for `needs`.
  Result<Slot> allocate(std::uint32_t length);
  /// From now on every `allocate` is `out_of_capacity`, and nothing is asked for.
  void close() noexcept { closed_ = true; }
  /// False, and nothing changes, unless that slot is in use in that generation.
  bool free(SlotId slot, Generation generation);
  /// A slot that an earlier life left in use. `corrupt` if it does not fit what is known.
  Result<Slot> adopt(const Slot& slot);

  [[nodiscard]] std::optional<Slot> find(SlotId slot) const;
  /// The first slot in use at or behind `from`, in the order of ids.
  [[nodiscard]] std::optional<Slot> next_used(SlotId from) const;

  /// The class of `length` has less than a tenth free, or had to refuse.
  [[nodiscard]] bool low(std::uint32_t length);
  /// The class of `length` can give a slot and has a tenth free after that: of the room that stores
  /// keep nothing is taken, and nothing has to go for it.
  [[nodiscard]] bool spare(std::uint32_t length);
  /// What is to be asked for; forgets the misses. A class that has less than a tenth free (units of
  /// no class count for every one) asks for victims of its own; one that starves for a slab chooses
  /// the run of units whose slabs are used least and lists their slots; those slabs hand out
  /// nothing meanwhile, and the run is the starving class's alone for kReservedRounds calls.
  [[nodiscard]] std::vector<Need> needs();

  [[nodiscard]] std::vector<ClassCount> counts() const;
  [[nodiscard]] std::uint64_t used_slots() const noexcept { return used_slots_; }
  [[nodiscard]] std::uint64_t used_bytes() const noexcept { return used_bytes_; }  ///< of slots
  [[nodiscard]] std::uint64_t capacity_bytes() const noexcept;  ///< that slabs can be cut from
  [[nodiscard]] std::uint32_t unit_bytes() const noexcept { return unit_bytes_; }

  /// `corrupt` with what is wrong: for tests and the simulator.
  [[nodiscard]] Result<> check_invariants() const;

  static constexpr std::uint32_t kReservedRounds = 16;

 private:
  struct Slab;
  struct Class;
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
  /// A run of units that is being emptied for a class.
  struct Reservation {
    std::uint32_t first = 0;
    std::uint32_t units = 0;
    std::size_t size_class = 0;
    std::uint32_t rounds_left = 0;  ///< 0: no reservation
  };

  [[nodiscard]] bool reserved_for_another(std::uint32_t unit, std::size_t size_class) const;
  [[nodiscard]] std::uint32_t find_run(std::uint32_t units, std::size_t size_class) const;
  Slab* open_slab(std::size_t size_class);
  Slab& cut(std::size_t size_class, SlabPlace at);
  void close_slab(Slab& slab);
  void list(Slab& slab);
  void unlist(Slab& slab);
  [[nodiscard]] std::uint64_t potential(Class& of) const;
  [[nodiscard]] const Slab* slab_of(SlotId slot) const;
  [[nodiscard]] std::optional<Slot> slot_at(const Slab& slab, std::uint32_t index) const;
  void reserve_run(std::size_t size_class);
  void end_reservation();
  [[nodiscard]] std::vector<wire::SlotRef> slots_in_reservation() const;
  [[nodiscard]] Need need_of(std::size_t size_class);

  std::atomic<std::uint64_t>& generations_;
  std::uint32_t unit_bytes_;
  std::uint32_t unit_count_;
  std::vector<std::uint32_t> slab_of_unit_;  ///< index into slabs_, kNone if the unit is free
  std::uint32_t free_units_;
  std::uint32_t lowest_free_ = 0;    ///< no unit below it is free
  std::uint64_t units_version_ = 1;  ///< changes with every slab that comes or goes
  std::uint64_t next_opened_ = 1;
  std::vector<std::unique_ptr<Slab>> slabs_;  ///< null where a slab has gone
  std::vector<std::uint32_t> vacant_slabs_;
  std::vector<Class> classes_;
  std::uint64_t used_slots_ = 0;
  std::uint64_t used_bytes_ = 0;
  bool closed_ = false;
  Reservation reservation_;
};

}  // namespace membrain
