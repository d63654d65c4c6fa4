#include "cache/client/lookup.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "protocol/messages.h"

namespace membrain {

namespace {

using Rule = LookupOptions::Rule;

wire::LookupRule wire_rule(Rule rule) noexcept {
  switch (rule) {
    case Rule::prefix:
      return wire::LookupRule::prefix;
    case Rule::window:
      return wire::LookupRule::window;
    case Rule::all:
      break;
  }
  return wire::LookupRule::all;
}

Result<> check_plan(const LookupPlan& plan, std::size_t keys_per_message) {
  const LookupOptions& options = plan.options;
  const std::size_t count = plan.keys.size();
  if (count > Match::State::kMaxBlocks) {
    return fail(Errc::invalid_argument, "too many blocks for one lookup");
  }
  if (options.rule != Rule::window) return {};
  if (options.window_blocks == 0) {
    return fail(Errc::invalid_argument, "a window lookup has a window of at least one block");
  }
  if (count > keys_per_message) {
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

wire::Lookup next_message(const ShardSession& session, const LookupPlan& plan, LookupId lookup,
                          std::span<const BlockKey> keys) {
  wire::LookupSection section;
  section.space = NamespaceId{plan.space.id};
  section.rule = wire_rule(plan.options.rule);
  section.window_blocks = plan.options.rule == Rule::window ? plan.options.window_blocks : 0;
  section.parts = plan.options.parts;
  section.keys.assign(keys.begin(), keys.end());
  wire::Lookup request;
  request.session = session.id();
  request.lookup = lookup;
  request.mode = plan.options.mode == LookupOptions::Mode::pin ? wire::LookupMode::pin
                                                               : wire::LookupMode::probe;
  request.sections.push_back(std::move(section));
  return request;
}

bool is_set(const std::vector<std::uint8_t>& bitmap, std::size_t bit) noexcept {
  return (bitmap[bit / 8] >> (bit % 8) & 1U) != 0;
}

/// Takes one answer about blocks `begin` to `begin + count`. False if it cannot be one to what was
/// asked.
bool take_answer(Progress& progress, const LookupPlan& plan, LookupId lookup,
                 const wire::Found& found, std::size_t count) {
  if (found.lookup != lookup || found.sections.size() != 1) return false;
  const wire::FoundSection& section = found.sections.front();
  if (section.bitmap.size() < (count + 7) / 8 || section.prefix_blocks > count) return false;
  Match::State& state = *progress.state;
  const std::size_t begin = progress.asked;
  for (std::size_t i = 0; i < count; ++i) {
    state.there[begin + i] = is_set(section.bitmap, i);
  }
  if (!state.probe && !section.locations.empty()) {
    state.claims.push_back({lookup, static_cast<std::uint32_t>(begin),
                            static_cast<std::uint32_t>(count), std::nullopt});
  }
  progress.placed.reserve(progress.placed.size() + section.locations.size());
  for (const wire::FoundLocation& location : section.locations) {
    if (location.block >= count || location.part >= plan.options.parts) return false;
    progress.placed.push_back({static_cast<std::uint32_t>(begin + location.block), location.part,
                               FoundReplica{location.at, location.tier}});
  }
  state.prefix_blocks += section.prefix_blocks;
  progress.asked += count;
  progress.ended = plan.options.rule == Rule::prefix && section.prefix_blocks < count;
  return true;
}

/// For `all`, across messages: the blocks before the first that is not there.
std::size_t prefix_of(const std::vector<bool>& there) {
  return static_cast<std::size_t>(std::find(there.begin(), there.end(), false) - there.begin());
}

/// Takes back what was pinned so far: the lookup as a whole has failed.
void give_back(ShardSession& session, const Match::State& state) {
  for (const Claim& claim : state.claims) session.pins().release(claim.lookup);
  session.pins_released();
}

/// By block of a message: is it named in the answer, and how many are.
struct Located {
  std::vector<std::uint8_t> blocks;
  std::size_t count = 0;
  std::size_t first = 0;
  std::size_t last = 0;
};

Located located_in(const wire::FoundSection& found, std::size_t asked) {
  Located located;
  located.blocks.assign(asked, 0);
  for (const wire::FoundLocation& location : found.locations) {
    std::uint8_t& block = located.blocks[location.block];
    if (block != 0) continue;
    block = 1;
    if (located.count == 0) located.first = location.block;
    located.first = std::min<std::size_t>(located.first, location.block);
    located.last = std::max<std::size_t>(located.last, location.block);
    ++located.count;
  }
  return located;
}

/// What the lookup may pin besides: a request that was repeated may have pinned more the first
/// time, on nodes that have gone since, or may pin more when its copy arrives, after this answer.
std::vector<BlockKey> surplus_of(const Located& located, std::span<const BlockKey> asked) {
  std::vector<BlockKey> surplus;
  if (located.count == asked.size()) return surplus;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    if (located.blocks[i] == 0) surplus.push_back(asked[i]);
  }
  std::vector<BlockKey> kept;  // a key may have been asked for twice
  for (std::size_t i = 0; i < asked.size(); ++i) {
    if (located.blocks[i] != 0) kept.push_back(asked[i]);
  }
  std::sort(kept.begin(), kept.end());
  std::erase_if(surplus, [&](const BlockKey& key) {
    return std::binary_search(kept.begin(), kept.end(), key);
  });
  return surplus;
}

/// Holds what was found of blocks `begin` to `begin + count`, and gives back what else is pinned.
void keep_pins(ShardSession& session, const std::shared_ptr<Match::State>& state, LookupId lookup,
               std::size_t begin, std::size_t count, const wire::FoundSection& found) {
  const auto asked = std::span<const BlockKey>(state->keys).subspan(begin, count);
  const Located located = located_in(found, count);
  std::vector<BlockKey> surplus = surplus_of(located, asked);
  PinRegistry& pins = session.pins();
  if (located.count == 0) {
    pins.release(lookup);
    return session.pins_released();
  }
  const std::size_t run = located.last + 1 - located.first;
  if (located.count == run) {
    pins.hold(lookup, {state->space, state->parts, asked.subspan(located.first, run), state});
  } else {
    std::vector<BlockKey> kept;
    for (std::size_t i = 0; i < count; ++i) {
      if (located.blocks[i] != 0) kept.push_back(asked[i]);
    }
    pins.hold(lookup, HeldPin::with(state->space, state->parts, std::move(kept)));
  }
  if (surplus.empty()) return;
  pins.release(lookup, state->space, std::move(surplus));
  session.pins_released();
}

/// One message and its answer, from block `progress.asked` on.
Task<Result<>> ask_next(ShardSession& session, const LookupPlan& plan, Progress& progress,
                        std::size_t keys_per_message) {
  const std::size_t begin = progress.asked;
  const std::span<const BlockKey> keys = progress.state->keys;
  const std::size_t count = std::min(keys_per_message, keys.size() - begin);
  const LookupId lookup = session.next_lookup();
  const bool pins = plan.options.mode == LookupOptions::Mode::pin;
  wire::Lookup request = next_message(session, plan, lookup, keys.subspan(begin, count));
  Task<Result<wire::Found>> asked = session.ask<wire::Found>(std::move(request), plan.deadline);
  const Result<wire::Found> found = co_await asked;
  const bool fits = found && take_answer(progress, plan, lookup, *found, count);
  if (!fits) {
    // It may pin all the same: the id is unpinned, whatever became of it.
    if (pins && (found || found.error().code == Errc::timed_out)) {
      session.pins().release(lookup);
      session.pins_released();
    }
    if (!found) co_return fail(found.error());
    co_return fail(Errc::corrupt, "the answer does not fit the lookup");
  }
  if (pins) keep_pins(session, progress.state, lookup, begin, count, found->sections.front());
  if (found->sections.front().era.value != plan.space.era) {
    co_return fail(Errc::stale, "the namespace was cleared: open it again");
  }
  co_return Result<>{};
}

}  // namespace

Task<Result<std::shared_ptr<Match::State>>> look_up(ShardSession& session,
                                                    std::shared_ptr<PinDesk> desk,
                                                    LookupPlan plan) {
  const std::uint16_t parts = plan.options.parts;
  if (parts == 0 || parts > wire::kMaxParts) {
    co_return fail(Errc::invalid_argument, "a block has 1 to 64 parts");
  }
  const std::size_t keys_per_message =
      std::clamp<std::size_t>(session.max_keys(), 1, wire::kMaxLocations / parts);
  if (const Result<> fine = check_plan(plan, keys_per_message); !fine) {
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
  while (progress.asked < state.keys.size() && !progress.ended) {
    Task<Result<>> step = ask_next(session, plan, progress, keys_per_message);
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
  if (plan.options.rule == Rule::all) state.prefix_blocks = prefix_of(state.there);
  if (!state.claims.empty()) state.desk = std::move(desk);
  co_return std::move(progress.state);
}

}  // namespace membrain
