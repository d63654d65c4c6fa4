#include "cache/client/lookup.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "cache/client/lookup_round.h"
#include "protocol/messages.h"

namespace membrain {

namespace {

using Rule = LookupOptions::Rule;

Result<> check_plan(const LookupPlan& plan, std::size_t keys_per_round) {
  const LookupOptions& options = plan.options;
  const std::size_t count = plan.keys.size();
  if (count > Match::State::kMaxBlocks) {
    return fail(Errc::invalid_argument, "too many blocks for one lookup");
  }
  if (options.rule != Rule::window) return {};
  if (options.window_blocks == 0) {
    return fail(Errc::invalid_argument, "a window lookup has a window of at least one block");
  }
  if (count > keys_per_round) {
    return fail(Errc::invalid_argument, "a window lookup must fit one message");
  }
  return {};
}

/// One lookup under way: what it asks next, and what it knows.
struct Progress {
  std::shared_ptr<Match::State> state = std::make_shared<Match::State>();
  std::vector<PlacedReplica> placed;
  std::size_t asked = 0;  ///< blocks asked so far
  bool ended = false;     ///< a prefix that broke off: no more to ask
};

/// Takes back what was pinned so far: the lookup as a whole has failed.
void give_back(ClusterSession& session, const Match::State& state) {
  for (const Claim& claim : state.claims) session.release(claim.lookup);
}

/// A question to every shard that is concerned, from block `progress.asked` on.
Task<Result<>> ask_next(ClusterSession& session, const LookupPlan& plan, Progress& progress,
                        std::size_t keys_per_round) {
  Match::State& state = *progress.state;
  Round round = begin_round(session, state, progress.asked,
                            std::min(keys_per_round, state.keys.size() - progress.asked));
  Task<> asking = ask_shards(session, plan, state, round);
  co_await asking;
  if (const Result<> outcome = outcome_of(round); !outcome) co_return outcome;
  join(state, plan, round);
  place(round, progress.placed);
  if (plan.options.mode == LookupOptions::Mode::pin) keep_pins(progress.state, round);
  state.prefix_blocks += round.prefix;
  progress.asked += round.count;
  progress.ended = plan.options.rule == Rule::prefix && round.prefix < round.count;
  bool pinned = false;
  bool stale = false;
  for (const Share& share : round.shares) {
    pinned = pinned || share.session->pins().find(round.lookup) != nullptr;
    const bool other = share.found && share.found->sections.front().era != state.era;
    stale = stale || other;
  }
  if (pinned) {
    state.claims.push_back({round.lookup, static_cast<std::uint32_t>(round.begin),
                            static_cast<std::uint32_t>(round.count), std::nullopt});
  }
  if (stale) co_return fail(Errc::stale, "the namespace was cleared: open it again");
  co_return Result<>{};
}

/// The blocks before the first that is not there.
std::size_t prefix_of(const std::vector<bool>& there) {
  return static_cast<std::size_t>(std::find(there.begin(), there.end(), false) - there.begin());
}

bool has_place(const Match::State& state, std::size_t block) {
  for (std::uint16_t part = 0; part < state.parts; ++part) {
    if (state.replicas_of(block, part).empty()) return false;
  }
  return true;
}

/// A repeated lookup may be answered with blocks that it pins and whose replicas have all gone
/// since: they are unpinned (keep_pins), and not there. Of a window's blocks all must be.
void forget_what_has_no_place(Match::State& state, const LookupOptions& options) {
  const bool window = options.rule == Rule::window;
  const std::size_t end = options.rule == Rule::all ? state.keys.size() : state.prefix_blocks;
  const std::size_t begin = window ? end - std::min<std::size_t>(options.window_blocks, end) : 0;
  for (std::size_t block = begin; block < end; ++block) {
    if (!state.there[block] || has_place(state, block)) continue;
    state.there[block] = false;
    state.prefix_blocks = window ? 0 : std::min(state.prefix_blocks, block);
  }
}

}  // namespace

Task<Result<std::shared_ptr<Match::State>>> look_up(ClusterSession& session,
                                                    std::shared_ptr<PinDesk> desk,
                                                    LookupPlan plan) {
  const std::uint16_t parts = plan.options.parts;
  if (parts == 0 || parts > wire::kMaxParts) {
    co_return fail(Errc::invalid_argument, "a block has 1 to 64 parts");
  }
  const std::size_t keys_per_round =
      std::clamp<std::size_t>(session.max_keys(), 1, wire::kMaxLocations / parts);
  if (const Result<> fine = check_plan(plan, keys_per_round); !fine) {
    co_return fail(fine.error());
  }

  Progress progress;
  Match::State& state = *progress.state;
  state.space = NamespaceId{plan.space.id};
  state.era = Era{plan.space.era};
  state.parts = parts;
  state.probe = plan.options.mode == LookupOptions::Mode::probe;
  state.keys = std::move(plan.keys);
  state.there.resize(state.keys.size());
  state.answered.resize(state.keys.size());
  while (progress.asked < state.keys.size() && !progress.ended) {
    Task<Result<>> step = ask_next(session, plan, progress, keys_per_round);
    const Result<> outcome = co_await step;
    if (!outcome) {
      give_back(session, state);
      co_return fail(outcome.error());
    }
  }
  if (!place_replicas(state, std::move(progress.placed))) {
    give_back(session, state);
    co_return fail(Errc::corrupt, "the answer does not fit the lookup");
  }
  if (!state.probe) forget_what_has_no_place(state, plan.options);
  if (plan.options.rule == Rule::all) state.prefix_blocks = prefix_of(state.there);
  if (!state.claims.empty()) state.desk = std::move(desk);
  co_return std::move(progress.state);
}

}  // namespace membrain
