// The shard's lookups: what is there, what of it is pinned, and where it is.
#include <algorithm>
#include <array>
#include <span>
#include <unordered_set>
#include <utility>

#include "server/shard.h"

namespace membrain {

namespace {

using wire::LookupRule;

std::uint32_t leading(const std::vector<std::uint8_t>& present) {
  return static_cast<std::uint32_t>(std::find(present.begin(), present.end(), 0) - present.begin());
}

/// The longest prefix whose last `window` blocks are there (all of it, if it is shorter).
std::uint32_t windowed(const std::vector<std::uint8_t>& present, std::uint32_t window) {
  std::uint32_t longest = 0;
  std::uint32_t run = 0;
  for (std::uint32_t i = 0; i < present.size(); ++i) {
    run = present[i] != 0 ? run + 1 : 0;
    if (run >= std::min(window, i + 1)) longest = i + 1;
  }
  return longest;
}

std::uint32_t prefix_by_rule(const wire::LookupSection& section,
                             const std::vector<std::uint8_t>& present) {
  return section.rule == LookupRule::window ? windowed(present, section.window_blocks)
                                            : leading(present);
}

}  // namespace

Result<wire::Found> Shard::lookup(const wire::Lookup& request, TimePoint now) {
  Session* session = heard(request.session, now);
  if (session == nullptr) return fail(Errc::denied, "this session is over");
  Result<std::vector<Probed>> probed = probe(*session, request);
  if (!probed) return fail(probed.error());
  if (request.mode == wire::LookupMode::probe) {
    count_lookup(request, *probed);
    return answer(request, *probed);
  }
  if (!request.lookup) return fail(Errc::invalid_argument, "a lookup that pins has an id");
  const auto known = session->lookups.find(request.lookup);
  if (known != session->lookups.end()) {
    mark_pinned(known->second, *probed);
  } else if (session->settled(request.lookup)) {
    for (Probed& section : *probed) section.prefix = 0;
  } else {
    const Result<> pinned = session->asserting ? assert_pins(*session, request, *probed)
                                               : pin_found(*session, request, *probed);
    if (!pinned) return fail(pinned.error());
    count_lookup(request, *probed);
  }
  return answer(request, *probed);
}

Result<> Shard::check_section(const Session& session, const wire::LookupSection& section) const {
  if (const Result<SpaceIndex> space = space_of(session, section.space); !space) {
    return fail(space.error());
  }
  if (section.parts == 0 || section.parts > wire::kMaxParts) {
    return fail(Errc::invalid_argument, "a block has 1 to 64 parts");
  }
  if (section.rule == LookupRule::window && section.window_blocks == 0) {
    return fail(Errc::invalid_argument, "a window has at least one block");
  }
  if (!has_all(section.keys, std::identity{})) return fail(kElsewhere);
  return {};
}

Result<std::vector<Shard::Probed>> Shard::probe(const Session& session,
                                                const wire::Lookup& request) {
  std::vector<Probed> probed;
  for (const wire::LookupSection& section : request.sections) {
    if (const Result<> fine = check_section(session, section); !fine) return fail(fine.error());
    Probed& found = probed.emplace_back();
    found.space = spaces_.find(section.space);
    BlockName name;
    name.space = found.space;
    name.era = spaces_[found.space].era;
    names_.clear();
    for (const BlockKey& key : section.keys) {
      name.key = key;
      for (name.part = 0; name.part < section.parts; ++name.part) names_.push_back(name);
    }
    found.refs.resize(names_.size());
    catalog_.find_all(names_, found.refs);
    found.present.assign(section.keys.size(), 0);
    found.pinned.assign(section.keys.size(), 0);
    for (std::size_t block = 0; block < section.keys.size(); ++block) {
      const auto parts = std::span(found.refs).subspan(block * section.parts, section.parts);
      const bool all = std::all_of(parts.begin(), parts.end(), [&](Ref ref) {
        return ref != kNoRef && catalog_.has_sound(ref);
      });
      found.present[block] = all ? 1 : 0;
    }
    found.prefix = prefix_by_rule(section, found.present);
  }
  return probed;
}

/// Pins what the rules ask for, as far as one answer can name it.
Result<> Shard::pin_found(Session& session, const wire::Lookup& request,
                          std::vector<Probed>& probed) {
  std::vector<Ref> entries;
  entries.reserve(probed.size() == 1 ? probed.front().refs.size() : 0);
  std::size_t left = wire::kMaxLocations;
  for (std::size_t i = 0; i < probed.size(); ++i) {
    const wire::LookupSection& section = request.sections[i];
    Probed& found = probed[i];
    const auto fitting = static_cast<std::uint32_t>(left / section.parts);
    std::uint32_t begin = 0;
    auto end = static_cast<std::uint32_t>(section.keys.size());
    if (section.rule == LookupRule::prefix) {
      end = found.prefix = std::min(found.prefix, fitting);
    } else if (section.rule == LookupRule::window) {
      if (std::min(section.window_blocks, found.prefix) > fitting) found.prefix = 0;
      end = found.prefix;
      begin = end - std::min(section.window_blocks, end);
    }
    for (std::uint32_t block = begin; block < end; ++block) {
      if (found.present[block] == 0) continue;
      if (left < section.parts) {  // only `all` comes here: what is not named is not found
        found.present[block] = 0;
        continue;
      }
      left -= section.parts;
      found.pinned[block] = 1;
      const auto first = found.refs.begin() + std::ptrdiff_t{block} * section.parts;
      entries.insert(entries.end(), first, first + section.parts);
    }
    if (section.rule == LookupRule::all) found.prefix = leading(found.present);
  }
  return pin_all(session, request.lookup, std::move(entries), probed);
}

/// A resumed session held these before the connection, the server or a node was gone. What is not
/// there is pinned all the same: it may be in a report that has yet to come.
Result<> Shard::assert_pins(Session& session, const wire::Lookup& request,
                            std::vector<Probed>& probed) {
  std::size_t missing = 0;
  for (const Probed& found : probed) missing += found.refs.size();
  if (pins_ + missing > sessions_.limits().max_pins) {
    return fail(Errc::out_of_capacity, "too many pins");
  }
  std::vector<Ref> entries;
  for (std::size_t i = 0; i < probed.size(); ++i) {
    const wire::LookupSection& section = request.sections[i];
    Probed& found = probed[i];
    for (std::size_t at = 0; at < found.refs.size(); ++at) {
      BlockName name;
      name.key = section.keys[at / section.parts];
      name.space = found.space;
      name.era = spaces_[found.space].era;
      name.part = static_cast<std::uint16_t>(at % section.parts);
      if (found.refs[at] == kNoRef) found.refs[at] = catalog_.find_or_add(name);
      entries.push_back(found.refs[at]);
    }
    std::fill(found.pinned.begin(), found.pinned.end(), std::uint8_t{1});
  }
  const Result<> pinned = pin_all(session, request.lookup, entries, probed);
  if (!pinned) {
    for (const Ref ref : entries) {
      if (records_.entries[ref].in_use()) catalog_.settle(ref);
    }
  }
  return pinned;
}

/// Keeps the first of equal references, and their order.
void Shard::keep_each_once(std::vector<Ref>& entries) {
  std::erase_if(entries, [&](Ref ref) {
    const bool seen = records_.entries[ref].marked;
    records_.entries[ref].marked = true;
    return seen;
  });
  for (const Ref ref : entries) records_.entries[ref].marked = false;
}

Result<> Shard::pin_all(Session& session, LookupId lookup, std::vector<Ref> entries,
                        const std::vector<Probed>& probed) {
  const SessionLimits& limits = sessions_.limits();
  if (entries.empty()) {
    session.settle(lookup, limits.max_settled);
    return {};
  }
  keep_each_once(entries);
  if (session.lookups.size() >= limits.max_lookups || pins_ + entries.size() > limits.max_pins) {
    return fail(Errc::out_of_capacity, "too many pins");
  }
  for (const Ref ref : entries) catalog_.pin(ref);
  copies_.touched(entries, session.heard);
  pins_ += entries.size();
  PinnedLookup& pinned = session.lookups[lookup];
  pinned.entries = std::move(entries);
  for (const Probed& section : probed) pinned.prefixes.push_back(section.prefix);
  return {};
}

/// For a lookup that comes again: what it pins, whatever has come since.
void Shard::mark_pinned(const PinnedLookup& lookup, std::vector<Probed>& probed) {
  const std::unordered_set<Ref> held(lookup.entries.begin(), lookup.entries.end());
  for (std::size_t i = 0; i < probed.size(); ++i) {
    Probed& found = probed[i];
    found.prefix = lookup.prefixes.size() == probed.size() ? lookup.prefixes[i] : 0;
    if (found.pinned.empty()) continue;
    found.prefix = std::min(found.prefix, static_cast<std::uint32_t>(found.pinned.size()));
    const std::size_t parts = found.refs.size() / found.pinned.size();
    for (std::size_t block = 0; block < found.pinned.size(); ++block) {
      const auto refs = std::span(found.refs).subspan(block * parts, parts);
      const bool all =
          std::all_of(refs.begin(), refs.end(), [&](Ref ref) { return held.contains(ref); });
      found.pinned[block] = all ? 1 : 0;
      if (all) found.present[block] = 1;
    }
  }
}

wire::Found Shard::answer(const wire::Lookup& request, const std::vector<Probed>& probed) const {
  wire::Found found;
  found.lookup = request.lookup;
  std::size_t named = 0;
  for (std::size_t i = 0; i < probed.size(); ++i) {
    const auto blocks = std::count(probed[i].pinned.begin(), probed[i].pinned.end(), 1);
    named += static_cast<std::size_t>(blocks) * request.sections[i].parts;
  }
  const std::size_t replicas_each = std::clamp<std::size_t>(
      wire::kMaxLocations / std::max<std::size_t>(named, 1), 1, wire::kMaxReplicas);
  std::size_t left = wire::kMaxLocations;
  for (std::size_t i = 0; i < probed.size(); ++i) {
    const Probed& from = probed[i];
    wire::FoundSection& section = found.sections.emplace_back();
    section.era = spaces_[from.space].era;
    section.prefix_blocks = from.prefix;
    section.bitmap.assign((from.present.size() + 7) / 8, 0);
    for (std::size_t block = 0; block < from.present.size(); ++block) {
      const unsigned bit = from.present[block] != 0 ? 1U << (block % 8) : 0;
      section.bitmap[block / 8] = static_cast<std::uint8_t>(section.bitmap[block / 8] | bit);
    }
    add_locations(from, request.sections[i].parts, replicas_each, left, section);
  }
  return found;
}

void Shard::add_locations(const Probed& section, std::uint16_t parts, std::size_t replicas_each,
                          std::size_t& left, wire::FoundSection& into) const {
  const auto blocks = std::count(section.pinned.begin(), section.pinned.end(), 1);
  into.locations.reserve(static_cast<std::size_t>(blocks) * parts);
  for (std::uint32_t block = 0; block < section.pinned.size(); ++block) {
    if (section.pinned[block] == 0) continue;
    for (std::uint16_t part = 0; part < parts; ++part) {
      const Ref entry = section.refs[std::size_t{block} * parts + part];
      // Beside what is lent or about to go there may be as many that stay.
      std::array<Ref, 2 * wire::kMaxReplicas> found{};
      std::size_t count = 0;
      for (Ref at = catalog_.sound(records_.entries[entry].replicas);
           at != kNoRef && count < found.size(); at = catalog_.sound(records_.replicas[at].next)) {
        found[count++] = at;
      }
      count = stayers_first(std::span(found).first(count));
      const std::size_t named = std::min({count, replicas_each, left});
      // Where an answer has no room for all, others get other ones.
      const std::size_t first = named < count ? totals_.lookups % count : 0;
      for (std::size_t i = 0; i < named; ++i) {
        const Replica& replica = records_.replicas[found[(first + i) % count]];
        into.locations.push_back({block, part, replica.tier, location(replica)});
      }
      left -= named;
    }
  }
}

/// Nobody is sent to a node that leaves, if another one has the block: how many are to be named.
std::size_t Shard::stayers_first(std::span<Ref> replicas) const {
  if (!copies_.anyone_leaves()) return replicas.size();
  const auto leaving = std::stable_partition(replicas.begin(), replicas.end(), [&](Ref replica) {
    return !nodes_[records_.replicas[replica].node].leaving;
  });
  const auto stay = static_cast<std::size_t>(leaving - replicas.begin());
  return stay > 0 ? stay : replicas.size();
}

Location Shard::location(const Replica& replica) const noexcept {
  const Node& node = nodes_[replica.node];
  return {node.id,        node.incarnation,   replica.slot,
          replica.length, replica.generation, replica.checksum};
}

void Shard::count_lookup(const wire::Lookup& request, const std::vector<Probed>& probed) {
  ++totals_.lookups;
  for (std::size_t i = 0; i < probed.size(); ++i) {
    const Probed& found = probed[i];
    totals_.blocks_looked_up += found.present.size();
    const bool each = request.sections[i].rule == LookupRule::all;
    const auto there = std::count(found.present.begin(), found.present.end(), 1);
    totals_.blocks_hit += each ? static_cast<std::uint64_t>(there) : found.prefix;
  }
}

}  // namespace membrain
