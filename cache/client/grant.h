// The bytes with which one process lets another fetch what it has pinned.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "cache/client/match_state.h"
#include "membrain/client.h"
#include "membrain/result.h"

namespace membrain {

/// Claims of one grant: a match of Match::State::kMaxBlocks blocks takes this many lookups.
inline constexpr std::size_t kMaxGrantClaims = 1024;

/// Writes what another process needs: proofs (one per claim of `match`, in their order), keys and
/// locations, and a checksum over all of it. `out_of_capacity` beyond Match::kMaxGrantBytes.
[[nodiscard]] Result<std::vector<std::byte>> encode_grant(
    const Match::State& match, std::span<const wire::SessionProof> proofs);

/// Reads them, as input from a stranger: `corrupt` for anything that is not a whole grant of this
/// version. Whether its proofs hold, the nodes decide.
[[nodiscard]] Result<std::shared_ptr<Match::State>> decode_grant(std::span<const std::byte> bytes);

}  // namespace membrain
