// One round of a lookup: what each shard is asked at once, and how their answers are joined.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/ids.h"
#include "cache/client/cluster_session.h"
#include "cache/client/lookup.h"
#include "cache/client/match_state.h"
#include "membrain/result.h"
#include "protocol/messages.h"
#include "transport/task.h"

namespace membrain {

/// What one shard is asked in a round, and what it says.
struct Share {
  ShardSession* session = nullptr;
  SessionId asked_in;                 ///< that session was then
  bool whole = false;                 ///< every block of the round
  std::vector<std::uint32_t> blocks;  ///< unless `whole`: of the round, in prompt order
  std::size_t count = 0;              ///< of blocks
  Result<wire::Found> found = fail(Errc::unavailable, "the server is away");

  [[nodiscard]] std::size_t block(std::size_t i) const noexcept { return whole ? i : blocks[i]; }
};

/// Blocks `begin` to `begin + count`, asked of their shards at once.
struct Round {
  LookupId lookup;
  std::size_t begin = 0;
  std::size_t count = 0;
  std::vector<Share> shares;
  std::size_t prefix = 0;  ///< joint, by the rule
  std::size_t kept = 0;    ///< the first block whose pin is kept; the last is before `keep_end`
  std::size_t keep_end = 0;
};

/// A round from block `begin` on, divided among the shards that have the keys.
[[nodiscard]] Round begin_round(ClusterSession& session, const Match::State& state,
                                std::size_t begin, std::size_t count);
/// Asks all of them; ends when each has answered or failed. An answer that makes no sense is none,
/// and so is one to a session that was replaced before the others had answered: the new one was
/// not told to pin what that found.
[[nodiscard]] Task<> ask_shards(ClusterSession& session, const LookupPlan& plan,
                                const Match::State& state, Round& round);
/// Nothing, unless no shard has answered; then why.
[[nodiscard]] Result<> outcome_of(const Round& round);
/// Joins what the shards said: which blocks are there, how long the prefix is, whose pins are kept.
void join(Match::State& state, const LookupPlan& plan, Round& round);
/// Where the blocks are whose pins are kept.
void place(const Round& round, std::vector<PlacedReplica>& placed);
/// Holds what was found and kept in the sessions' registries, and gives back what else is pinned.
void keep_pins(const std::shared_ptr<Match::State>& state, const Round& round);

}  // namespace membrain
