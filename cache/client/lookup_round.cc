#include "cache/client/lookup_round.h"

#include <algorithm>
#include <span>
#include <utility>

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

std::vector<Share> shares_of(ClusterSession& session, std::span<const BlockKey> keys) {
  std::vector<Share> shares;
  if (session.map().count() == 1) {
    Share& only = shares.emplace_back();
    only.session = &session.session(0);
    only.whole = true;
    only.count = keys.size();
    return shares;
  }
  std::vector<std::size_t> share_at(session.map().count(), SIZE_MAX);  // by the shard's place
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::size_t place = session.map().index_of(keys[i]);
    if (share_at[place] == SIZE_MAX) {
      share_at[place] = shares.size();
      shares.emplace_back().session = &session.session(place);
    }
    Share& share = shares[share_at[place]];
    share.blocks.push_back(static_cast<std::uint32_t>(i));
    ++share.count;
  }
  return shares;
}

/// A shard that knows some of the keys cannot know a window's end: it is asked for all of them.
wire::LookupRule rule_for(const LookupPlan& plan, const Round& round) noexcept {
  const bool split = round.shares.size() > 1 && plan.options.rule == Rule::window;
  return wire_rule(split ? Rule::all : plan.options.rule);
}

wire::Lookup message_for(const Share& share, const LookupPlan& plan, const Round& round,
                         std::span<const BlockKey> keys) {
  wire::LookupSection section;
  section.space = NamespaceId{plan.space.id};
  section.rule = rule_for(plan, round);
  section.window_blocks = section.rule == wire::LookupRule::window ? plan.options.window_blocks : 0;
  section.parts = plan.options.parts;
  section.keys.reserve(share.count);
  for (std::size_t i = 0; i < share.count; ++i) section.keys.push_back(keys[share.block(i)]);
  wire::Lookup request;
  request.session = share.session->id();
  request.lookup = round.lookup;
  request.mode = plan.options.mode == LookupOptions::Mode::pin ? wire::LookupMode::pin
                                                               : wire::LookupMode::probe;
  request.sections.push_back(std::move(section));
  return request;
}

bool is_set(const std::vector<std::uint8_t>& bitmap, std::size_t bit) noexcept {
  return (bitmap[bit / 8] >> (bit % 8) & 1U) != 0;
}

/// Whether it can be an answer to what this share was asked.
bool fits(const wire::Found& found, const Share& share, const LookupPlan& plan, LookupId lookup) {
  if (found.lookup != lookup || found.sections.size() != 1) return false;
  const wire::FoundSection& section = found.sections.front();
  if (section.bitmap.size() < (share.count + 7) / 8 || section.prefix_blocks > share.count) {
    return false;
  }
  return std::ranges::all_of(section.locations, [&](const wire::FoundLocation& location) {
    return location.block < share.count && location.part < plan.options.parts;
  });
}

/// The longest prefix whose last `window` blocks are there (all of it, if it is shorter).
std::size_t windowed(const std::vector<bool>& there, std::size_t window) {
  std::size_t longest = 0;
  std::size_t run = 0;
  for (std::size_t i = 0; i < there.size(); ++i) {
    run = there[i] ? run + 1 : 0;
    if (run >= std::min(window, i + 1)) longest = i + 1;
  }
  return longest;
}

/// The first block of the round behind what this shard found in a row.
std::size_t prefix_end(const Share& share, std::size_t count) noexcept {
  const std::size_t prefix = share.found ? share.found->sections.front().prefix_blocks : 0;
  return prefix == share.count ? count : share.block(prefix);
}

bool kept(const Round& round, const Share& share, std::size_t i) noexcept {
  const std::size_t block = share.block(i);
  return block >= round.kept && block < round.keep_end;
}

/// By block of a share: is it named in the answer and kept, and how many are.
struct Located {
  std::vector<std::uint8_t> blocks;
  std::size_t count = 0;
  std::size_t first = 0;
  std::size_t last = 0;
};

Located located_in(const Round& round, const Share& share) {
  Located located;
  located.blocks.assign(share.count, 0);
  for (const wire::FoundLocation& location : share.found->sections.front().locations) {
    std::uint8_t& block = located.blocks[location.block];
    if (block != 0 || !kept(round, share, location.block)) continue;
    block = 1;
    if (located.count == 0) located.first = location.block;
    located.first = std::min<std::size_t>(located.first, location.block);
    located.last = std::max<std::size_t>(located.last, location.block);
    ++located.count;
  }
  return located;
}

/// Of the share's keys, those that are located, or are not.
std::vector<BlockKey> keys_where(const Located& located, const Share& share,
                                 std::span<const BlockKey> asked, std::uint8_t is) {
  std::vector<BlockKey> keys;
  for (std::size_t i = 0; i < share.count; ++i) {
    if (located.blocks[i] == is) keys.push_back(asked[share.block(i)]);
  }
  return keys;
}

/// What the lookup may pin besides: what lies beyond the joint prefix; and a request that was
/// repeated may have pinned more the first time, on nodes that have gone since, or may pin more
/// when its copy arrives, after this answer.
std::vector<BlockKey> surplus_of(const Located& located, const Share& share,
                                 std::span<const BlockKey> asked) {
  if (located.count == share.count) return {};
  std::vector<BlockKey> surplus = keys_where(located, share, asked, 0);
  std::vector<BlockKey> held = keys_where(located, share, asked, 1);  // one may be asked for twice
  std::sort(held.begin(), held.end());
  std::erase_if(surplus, [&](const BlockKey& key) {
    return std::binary_search(held.begin(), held.end(), key);
  });
  return surplus;
}

/// The same for one share.
void keep_share(const std::shared_ptr<Match::State>& state, const Round& round,
                const Share& share) {
  const auto asked = std::span<const BlockKey>(state->keys).subspan(round.begin, round.count);
  const Located located = located_in(round, share);
  std::vector<BlockKey> surplus = surplus_of(located, share, asked);
  PinRegistry& pins = share.session->pins();
  if (located.count == 0) {
    pins.release(round.lookup);
    return share.session->pins_released();
  }
  if (located.count == located.last + 1 - located.first) {
    // Keys of other shards among them are passed over when the pin is asserted.
    const std::size_t first = share.block(located.first);
    const std::size_t run = share.block(located.last) + 1 - first;
    pins.hold(round.lookup, {state->space, state->parts, asked.subspan(first, run), state});
  } else {
    pins.hold(round.lookup,
              HeldPin::with(state->space, state->parts, keys_where(located, share, asked, 1)));
  }
  if (surplus.empty()) return;
  pins.release(round.lookup, state->space, std::move(surplus));
  share.session->pins_released();
}

/// One shard's question and answer.
Task<> ask(Share& share, wire::Lookup request, const LookupPlan& plan, LookupId lookup) {
  Task<Result<wire::Found>> asked =
      share.session->ask<wire::Found>(std::move(request), plan.deadline);
  share.found = co_await asked;
  if (share.found && !fits(*share.found, share, plan, lookup)) {
    share.found = fail(Errc::corrupt, "the answer does not fit the lookup");
  }
  if (share.found || plan.options.mode != LookupOptions::Mode::pin) co_return;
  const Errc code = share.found.error().code;
  const bool unsure =
      code == Errc::corrupt || code == Errc::timed_out || code == Errc::out_of_capacity;
  if (!unsure) co_return;
  // It may pin all the same: the id is unpinned, whatever became of it.
  share.session->pins().release(lookup);
  share.session->pins_released();
}

}  // namespace

Round begin_round(ClusterSession& session, const Match::State& state, std::size_t begin,
                  std::size_t count) {
  Round round;
  round.lookup = session.next_lookup();
  round.begin = begin;
  round.count = count;
  round.shares = shares_of(session, std::span<const BlockKey>(state.keys).subspan(begin, count));
  return round;
}

Task<> ask_shards(ClusterSession& session, const LookupPlan& plan, const Match::State& state,
                  Round& round) {
  const auto keys = std::span<const BlockKey>(state.keys).subspan(round.begin, round.count);
  Loop& loop = session.loop();
  const std::uint32_t map = session.map().version();
  for (Share& share : round.shares) share.asked_in = share.session->id();
  if (round.shares.size() == 1) {
    Share& only = round.shares.front();
    Task<> asking = ask(only, message_for(only, plan, round, keys), plan, round.lookup);
    co_await asking;
  } else {
    Completion all(loop.ready(), static_cast<std::uint32_t>(round.shares.size()));
    for (Share& share : round.shares) {
      loop.spawn([](Task<> asking, Completion& ended) -> Task<> {
        co_await asking;
        ended.finish({});
      }(ask(share, message_for(share, plan, round, keys), plan, round.lookup), all));
    }
    static_cast<void>(co_await all);
  }
  const bool pins = plan.options.mode == LookupOptions::Mode::pin;
  for (Share& share : round.shares) {
    const bool replaced = share.session->id() != share.asked_in || session.map().version() != map;
    if (share.found && pins && replaced) {
      share.found = fail(Errc::unavailable, "its session was replaced");
      share.session->pins().release(round.lookup);
      share.session->pins_released();
    }
    if (!share.found && share.found.error().code == Errc::stale) session.doubt_map();
  }
}

Result<> outcome_of(const Round& round) {
  const auto answered = [](const Share& share) { return share.found.has_value(); };
  if (std::ranges::any_of(round.shares, answered)) return {};
  return fail(round.shares.front().found.error());
}

void join(Match::State& state, const LookupPlan& plan, Round& round) {
  for (const Share& share : round.shares) {
    for (std::size_t i = 0; i < share.count && share.found; ++i) {
      const std::size_t block = round.begin + share.block(i);
      state.there[block] = is_set(share.found->sections.front().bitmap, i);
      state.answered[block] = true;
    }
  }
  round.prefix = round.count;
  round.keep_end = round.count;
  const bool split = round.shares.size() > 1;
  if (split && plan.options.rule == Rule::window) {  // which fits one round
    round.prefix = windowed(state.there, plan.options.window_blocks);
    round.keep_end = round.prefix;
    round.kept = round.prefix - std::min<std::size_t>(plan.options.window_blocks, round.prefix);
  } else {
    for (const Share& share : round.shares) {
      round.prefix = std::min(round.prefix, prefix_end(share, round.count));
    }
    if (split && plan.options.rule == Rule::prefix) round.keep_end = round.prefix;
  }
}

void place(const Round& round, std::vector<PlacedReplica>& placed) {
  for (const Share& share : round.shares) {
    if (!share.found) continue;
    const auto& locations = share.found->sections.front().locations;
    placed.reserve(placed.size() + locations.size());
    for (const wire::FoundLocation& location : locations) {
      if (!kept(round, share, location.block)) continue;
      const std::size_t block = round.begin + share.block(location.block);
      placed.push_back({static_cast<std::uint32_t>(block), location.part,
                        FoundReplica{location.at, location.tier}});
    }
  }
}

void keep_pins(const std::shared_ptr<Match::State>& state, const Round& round) {
  for (const Share& share : round.shares) {
    if (share.found) keep_share(state, round, share);
  }
}

}  // namespace membrain
