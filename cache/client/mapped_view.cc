#include "cache/client/mapped_view.h"

#include <utility>

#include "base/checksum.h"
#include "cache/client/mapped_fetch.h"

namespace membrain {

View::View() noexcept = default;
View::View(const View&) noexcept = default;
View::View(View&&) noexcept = default;
View& View::operator=(const View&) noexcept = default;
View& View::operator=(View&&) noexcept = default;
View::~View() = default;

View::View(const detail::ViewedPart& part) noexcept
    : data_(part.bytes.data()),
      length_(part.bytes.size()),
      arena_(*part.arena),
      generation_(part.at.generation.value),
      sum_{part.at.checksum.low, part.at.checksum.high},
      slot_(part.at.slot.value),
      whole_(part.at.length),
      verify_(part.verify) {}

Result<> View::finish() const noexcept {
  if (!arena_) return fail(Errc::invalid_argument, "a view of nothing");
  const auto& arena = *static_cast<const MappedArena*>(arena_.get());
  Location at;
  at.slot = SlotId{slot_};
  at.length = whole_;
  at.generation = Generation{generation_};
  const bool same = !verify_ || checksum(arena.bytes(at, 0, whole_)) == Checksum{sum_[0], sum_[1]};
  if (!arena.still_holds(at)) return fail(Errc::stale, "the slot has changed");
  if (!same) return fail(Errc::corrupt, "the bytes are not the block's");
  return {};
}

namespace {

/// One item's replica in a mapped arena, if its range is one.
Result<MappedItem> find(const Match::State& match, const FetchItem& item, const ArenaSet& arenas) {
  if (item.block >= match.keys.size() || item.part >= match.parts) {
    return fail(Errc::invalid_argument, "a view of a block or part outside the match");
  }
  const std::span<const FoundReplica> replicas = match.replicas_of(item.block, item.part);
  if (replicas.empty()) return fail(Errc::not_found, "a view of a block that was not found");
  const std::uint32_t whole = replicas.front().at.length;
  if (item.offset >= whole || item.length > whole - item.offset) {
    return fail(Errc::invalid_argument, "a view of a range outside the block");
  }
  const auto mapped = mapped_replica(match, item.block, item.part, arenas);
  if (!mapped) return fail(Errc::unavailable, "no mapped node holds the block");
  return *mapped;
}

}  // namespace

Result<std::vector<View>> view_mapped(const Match::State& match, std::span<const FetchItem> items,
                                      const ArenaSet& arenas, bool verify) {
  if (match.probe || match.released) {
    return fail(Errc::invalid_argument, "only what a match pins can be viewed");
  }
  for (const FetchItem& item : items) {  // all seals are under way before the first is looked at
    const Result<MappedItem> found = find(match, item, arenas);
    if (!found) return fail(found.error());
    found->arena->prefetch(*found->at);
  }
  std::vector<View> views;
  views.reserve(items.size());
  for (const FetchItem& item : items) {
    const Result<MappedItem> found = find(match, item, arenas);
    if (!found) return fail(found.error());
    if (!found->arena->holds(found->name, *found->at)) {
      return fail(Errc::unavailable, "the slot has changed: fetch it");
    }
    const std::uint32_t length = item.length != 0 ? item.length : found->at->length - item.offset;
    detail::ViewedPart part;
    part.arena = arenas.find(found->at->node);
    part.at = *found->at;
    part.bytes = found->arena->bytes(*found->at, item.offset, length);
    part.verify = verify;
    views.emplace_back(part);
  }
  return views;
}

}  // namespace membrain
