// Adoption: what an earlier life left in the arena, checked and taken over step by step.
#pragma once

#include <cstddef>
#include <cstdint>

#include <functional>
#include <utility>

#include "cache/node/block_table.h"
#include "cache/node/node_status.h"

namespace membrain {

/// Walks all seals once. A slot whose seal and checksum agree is adopted; torn and damaged ones are
/// freed. One that was lent to a writer who is still there stays claimed, and is told to `lent`;
/// other lent ones are freed. Nothing else may touch the table meanwhile.
///
/// Cost  A step hashes at most about `most_bytes`; the whole costs as much as hashing what is used.
class Adoption {
 public:
  using Lent = std::function<void(const SlotClaim& claim, WriterId writer)>;

  Adoption(BlockTable& table, NodeCounters& counters, Lent lent) noexcept
      : table_(table), counters_(counters), lent_(std::move(lent)) {}

  /// One step; true when all is done.
  bool step(std::size_t most_bytes);

  [[nodiscard]] std::uint64_t adopted() const noexcept { return adopted_; }
  [[nodiscard]] std::uint64_t torn() const noexcept { return torn_; }
  /// Sealed, but the bytes were not what the seal says, or it fitted nowhere.
  [[nodiscard]] std::uint64_t damaged() const noexcept { return damaged_; }
  [[nodiscard]] std::size_t percent() const noexcept;

 private:
  std::size_t take(SlotId slot);
  [[nodiscard]] bool take_lent(SlotId slot);

  BlockTable& table_;
  NodeCounters& counters_;
  Lent lent_;
  std::size_t next_ = 0;
  std::uint64_t adopted_ = 0;
  std::uint64_t torn_ = 0;
  std::uint64_t damaged_ = 0;
};

}  // namespace membrain
