// Asking the shard what is there: lookups of any length as messages within the protocol's bounds.
#pragma once

#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "cache/client/cluster_session.h"
#include "cache/client/match_state.h"
#include "cache/client/pin_desk.h"
#include "membrain/client.h"
#include "membrain/result.h"
#include "transport/task.h"

namespace membrain {

/// What is asked, in keys.
struct LookupPlan {
  OpenedNamespace space;
  std::vector<BlockKey> keys;
  LookupOptions options;
  TimePoint deadline;
};

/// Looks up, round by round of at most one message's bound of keys; a prefix stops at the first
/// round that is not wholly there. In a round every shard that has some of the keys is asked at
/// once, under one lookup id; their answers are joined, and what lies beyond the joint prefix is
/// unpinned in the same turn. The blocks of a shard that does not answer are not there, nor
/// `answered`. What is pinned is in the sessions' registries when this ends and belongs to
/// `Match::State` (`desk`). A lookup that gives up unpins its id.
///
/// Errors  `invalid_argument` for bad options, or a window lookup longer than one message; `stale`
///         when the namespace was cleared since it was opened; `unavailable`, `timed_out`.
[[nodiscard]] Task<Result<std::shared_ptr<Match::State>>> look_up(ClusterSession& session,
                                                                  std::shared_ptr<PinDesk> desk,
                                                                  LookupPlan plan);

}  // namespace membrain
