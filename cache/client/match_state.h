// What a Match holds: which blocks were found, where their replicas are, and by what right.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "cache/client/pin_desk.h"
#include "cache/client/source_choice.h"
#include "membrain/client.h"
#include "protocol/messages.h"

namespace membrain {

/// The right to fetch some consecutive blocks of a match: one lookup of this client's session, or
/// somebody else's that was granted.
struct Claim {
  LookupId lookup;
  std::uint32_t first_block = 0;
  std::uint32_t block_count = 0;
  std::optional<wire::SessionProof> granted;  ///< none: the session's own proof
};

/// Immutable once a Match has it, but for `released`: any thread may read it.
struct Match::State {
  static constexpr std::size_t kMaxBlocks = 65536;  ///< of one Match

  NamespaceId space;
  Era era;
  std::uint16_t parts = 1;
  std::size_t prefix_blocks = 0;
  bool probe = false;  ///< only asked: nothing can be fetched
  std::vector<BlockKey> keys;
  std::vector<bool> there;
  std::vector<bool> answered;          ///< somebody has said whether it is there
  std::vector<FoundReplica> replicas;  ///< by block, then part; the preferred order is the shard's
  std::vector<std::uint32_t> first;    ///< where a cell's replicas begin; one more than cells
  std::vector<Claim> claims;
  std::shared_ptr<PinDesk> desk;  ///< none for a match that was adopted, or pins nothing
  std::atomic<bool> released = false;

  /// The replicas of a part, all of one length; empty if it was not found.
  [[nodiscard]] std::span<const FoundReplica> replicas_of(std::size_t block,
                                                          std::uint16_t part) const noexcept;
  /// Index of the claim that covers a block; nothing if none does.
  [[nodiscard]] std::optional<std::size_t> claim_of(std::size_t block) const noexcept;
  void release() noexcept;
};

/// One replica and the cell that it belongs to: how a State is filled.
struct PlacedReplica {
  std::uint32_t block = 0;
  std::uint16_t part = 0;
  FoundReplica replica;
};

/// Sorts `placed` into `state` (whose `keys` and `parts` are set): at most wire::kMaxReplicas per
/// part; one of another length than its part's first is left out. False, and nothing filled, if one
/// lies outside the blocks and parts or has no bytes: the sender is not to be believed.
[[nodiscard]] bool place_replicas(Match::State& state, std::vector<PlacedReplica> placed);

}  // namespace membrain
