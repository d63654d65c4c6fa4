// What a slot pool remembers of a slab and of a size class. Private to the slot pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/node/slot_pool.h"

namespace membrain {

struct SlotPool::Slab {
  std::uint32_t index = 0;  ///< in slabs_
  std::size_t size_class = 0;
  SlabPlace at;
  std::uint64_t opened = 0;                ///< order of opening
  std::uint32_t used = 0;                  ///< slots in use
  std::uint32_t tries = 0;                 ///< reservations that did not empty it
  bool closing = false;                    ///< hands nothing out
  std::size_t listed = SIZE_MAX;           ///< place in its class's list, SIZE_MAX if in none
  std::vector<std::uint32_t> free;         ///< indices of free slots, the next one last
  std::vector<std::uint64_t> generations;  ///< by index; 0 if free
};

struct SlotPool::Class {
  std::uint32_t slot_bytes = 0;
  std::uint32_t fewest_units = 0;  ///< that hold a slot
  std::uint32_t good_units = 0;    ///< that waste little
  std::uint32_t slabs = 0;
  std::uint64_t used = 0;                ///< slots in use
  std::uint64_t free = 0;                ///< slots that can be handed out now
  std::uint64_t missed = 0;              ///< refused since the last `needs`
  std::vector<std::uint32_t> with_free;  ///< slabs that hand slots out
  mutable std::uint64_t potential_version = 0;
  mutable std::uint64_t potential = 0;  ///< slots that free units would give
};

}  // namespace membrain
