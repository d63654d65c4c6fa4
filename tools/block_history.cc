#include "tools/block_history.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <optional>

namespace membrain {
namespace {

using Kind = BlockEvent::Kind;

constexpr std::size_t kShown = 8;  ///< events before the one that cannot be

/// One state that the block may be in, after some operations have taken effect.
struct State {
  std::uint32_t era = 0;
  bool stored = false;  ///< in this era
  bool present = false;
  HistoryTime pinned_until = 0;  ///< until then nothing but a disturbance takes it
  std::uint64_t taken = 0;       ///< pending operations that have taken effect, by their place
  HistoryTime now = 0;           ///< not before this

  [[nodiscard]] bool same_but_time(const State& other) const noexcept {
    return era == other.era && stored == other.stored && present == other.present &&
           pinned_until == other.pinned_until && taken == other.taken;
  }
};

bool may_happen(Kind kind) noexcept {
  return kind == Kind::maybe_store || kind == Kind::maybe_cleared;
}

/// The states that are possible, each with its earliest time: an earlier one can do all that a
/// later one can.
class States {
 public:
  /// False if it is known already.
  bool add(const State& state) {
    for (State& known : all_) {
      if (!known.same_but_time(state)) continue;
      if (known.now <= state.now) return false;
      known.now = state.now;
      return true;
    }
    all_.push_back(state);
    return true;
  }
  [[nodiscard]] const std::vector<State>& all() const noexcept { return all_; }

 private:
  std::vector<State> all_;
};

class Search {
 public:
  Search(const std::vector<BlockEvent>& events, const BlockRules& rules)
      : events_(events), rules_(rules) {
    State first;
    first.era = std::numeric_limits<std::uint32_t>::max();
    for (std::size_t i = 0; i < events.size(); ++i) {
      first.era = std::min(first.era, events[i].era);
      if (may_happen(events[i].kind)) possible_.push_back(i);
    }
    states_ = {first};
  }

  /// False if there is no room to keep it in mind.
  bool begin(std::size_t event) {
    if (may_happen(events_[event].kind)) return true;
    const int place = std::countr_one(used_);
    if (place == kMaxPending) return false;
    used_ |= std::uint64_t{1} << place;
    pending_[static_cast<std::size_t>(place)] = event;
    return true;
  }

  enum class Step : std::uint8_t { possible, impossible, too_many };

  /// The event has returned: it has taken effect by now.
  Step end(std::size_t event) {
    if (may_happen(events_[event].kind)) return Step::possible;
    const std::uint64_t bit = bit_of(event);
    States found;
    States seen;
    std::vector<State> open = states_;
    for (const State& state : open) seen.add(state);
    while (!open.empty()) {
      const State state = open.back();
      open.pop_back();
      if ((state.taken & bit) != 0) {
        found.add(state);
        continue;
      }
      explore(state, events_[event].ret, seen, open);
      if (seen.all().size() > kMaxStates) return Step::too_many;
    }
    used_ &= ~bit;
    states_.clear();
    States next;
    for (State state : found.all()) {
      state.taken &= ~bit;
      next.add(state);
    }
    states_ = next.all();
    return states_.empty() ? Step::impossible : Step::possible;
  }

 private:
  [[nodiscard]] std::uint64_t bit_of(std::size_t event) const {
    for (std::uint64_t left = used_; left != 0; left &= left - 1) {
      const int place = std::countr_zero(left);
      if (pending_[static_cast<std::size_t>(place)] == event) return std::uint64_t{1} << place;
    }
    return 0;
  }

  /// All that may happen next, no later than `limit`.
  void explore(const State& state, HistoryTime limit, States& seen, std::vector<State>& open) {
    const auto reach = [&](State next) {
      if (next.pinned_until <= next.now) next.pinned_until = 0;  // it binds nobody any more
      if (next.now <= limit && seen.add(next)) open.push_back(next);
    };
    for (std::uint64_t left = used_ & ~state.taken; left != 0; left &= left - 1) {
      const int place = std::countr_zero(left);
      std::optional<State> next = after(state, events_[pending_[static_cast<std::size_t>(place)]]);
      if (!next) continue;
      next->taken |= std::uint64_t{1} << place;
      reach(*next);
    }
    if (state.present) {
      State gone = state;
      gone.present = false;
      gone.now = earliest_loss(state);
      reach(gone);
    } else {
      State back = state;
      back.present = back.stored = true;
      back.now = earliest_return(state);
      reach(back);
    }
    for (const std::size_t event : possible_) {
      if (events_[event].kind == Kind::maybe_cleared && events_[event].era == state.era) {
        reach(next_era(state, std::max(state.now, events_[event].call)));
      }
    }
  }

  static State next_era(const State& state, HistoryTime now) {
    State next;
    next.era = state.era + 1;
    next.taken = state.taken;
    next.now = now;
    return next;
  }

  /// The state once `event` has taken effect in it; none if it cannot.
  [[nodiscard]] std::optional<State> after(const State& state, const BlockEvent& event) const {
    State next = state;
    next.now = std::max(state.now, event.call);
    const bool same = event.era == state.era;
    const bool over = event.era < state.era;
    bool possible = false;
    switch (event.kind) {
      case Kind::store:
        possible = same;
        next.stored = next.present = true;
        break;
      case Kind::duplicate:  // an era that is over may still be known to a node
        possible = over || (same && state.stored);
        break;
      case Kind::hit:
        possible = same && state.present;
        next.pinned_until = std::max(state.pinned_until, event.pinned_until);
        break;
      case Kind::miss:
        possible = same && !state.present;
        break;
      case Kind::lost:
        possible = over || event.pinned_until < event.ret;
        break;
      case Kind::opened:
        possible = same;
        break;
      case Kind::stale:
        possible = over;
        break;
      case Kind::cleared:
        possible = same ? event.next_era == event.era + 1 : over && event.next_era == state.era;
        if (same) next = next_era(state, next.now);
        break;
      case Kind::maybe_store:
      case Kind::maybe_cleared:
        break;
    }
    return possible ? std::optional(next) : std::nullopt;
  }

  [[nodiscard]] HistoryTime earliest_disturbance(HistoryTime from) const {
    HistoryTime earliest = kNever;
    for (const Disturbance& disturbance : rules_.disturbances) {
      if (disturbance.end >= from) {
        earliest = std::min(earliest, std::max(from, disturbance.begin));
      }
    }
    return earliest;
  }

  [[nodiscard]] HistoryTime earliest_loss(const State& state) const {
    const HistoryTime disturbed = earliest_disturbance(state.now);
    if (!rules_.evicts) return disturbed;
    return std::min(disturbed, std::max(state.now, state.pinned_until));
  }

  /// By a store that was not acknowledged, or, if it was stored, in a disturbance.
  [[nodiscard]] HistoryTime earliest_return(const State& state) const {
    HistoryTime earliest = state.stored ? earliest_disturbance(state.now) : kNever;
    for (const std::size_t event : possible_) {
      const BlockEvent& store = events_[event];
      const bool can = store.kind == Kind::maybe_store && store.era == state.era;
      if (can && store.until >= state.now) {
        earliest = std::min(earliest, std::max(state.now, store.call));
      }
    }
    return earliest;
  }

  const std::vector<BlockEvent>& events_;
  const BlockRules& rules_;
  std::vector<std::size_t> possible_;  ///< stores and clears that may have happened
  std::uint64_t used_ = 0;
  std::array<std::size_t, kMaxPending> pending_{};
  std::vector<State> states_;
};

/// A pin that lived when pins were ended promises nothing from then on.
HistoryTime surely_pinned_until(const BlockEvent& event, const BlockRules& rules) {
  HistoryTime until = event.pinned_until;
  for (const Disturbance& disturbance : rules.disturbances) {
    if (disturbance.ends_pins && disturbance.end >= event.pinned_from) {
      until = std::min(until, disturbance.begin);
    }
  }
  return until;
}

std::string in_words(const BlockEvent& event, HistoryTime zero) {
  const auto ms = [zero](HistoryTime time) { return static_cast<double>(time - zero) / 1e6; };
  std::string text = fmt::format("{:.3f} to {:.3f} ms: {}, era {}", ms(event.call), ms(event.ret),
                                 to_string(event.kind), event.era);
  if (event.kind == Kind::cleared) text += fmt::format(", then {}", event.next_era);
  if (event.pinned_until == kNever) text += ", pinned to the end";
  if (event.pinned_until > event.pinned_from && event.pinned_until != kNever) {
    text += fmt::format(", pinned until {:.3f}", ms(event.pinned_until));
  }
  return text + fmt::format(" (client {})", event.client);
}

std::string story_of(const std::vector<BlockEvent>& events, std::size_t impossible) {
  const HistoryTime zero = events.front().call;
  std::vector<const BlockEvent*> before;
  for (const BlockEvent& event : events) {
    const bool earlier = event.call <= events[impossible].ret;
    if (earlier && &event != &events[impossible]) before.push_back(&event);
  }
  std::string text = "no order explains " + in_words(events[impossible], zero) + ", after";
  const std::size_t from = before.size() > kShown ? before.size() - kShown : 0;
  for (std::size_t i = from; i < before.size(); ++i) text += "\n    " + in_words(*before[i], zero);
  return text;
}

}  // namespace

std::string_view to_string(BlockEvent::Kind kind) noexcept {
  constexpr std::array<std::string_view, 10> kNames{
      "stored",  "store that failed", "duplicate", "found",
      "missed",  "lost while pinned", "opened",    "told that the era is over",
      "cleared", "clear that failed"};
  return kNames[static_cast<std::size_t>(kind)];
}

BlockVerdict judge(std::vector<BlockEvent> events, const BlockRules& rules) {
  std::ranges::stable_sort(events, {}, &BlockEvent::call);
  for (BlockEvent& event : events) event.pinned_until = surely_pinned_until(event, rules);
  struct Point {
    HistoryTime time;
    bool is_return;
    std::size_t event;
  };
  std::vector<Point> points;
  points.reserve(2 * events.size());
  for (std::size_t i = 0; i < events.size(); ++i) {
    points.push_back({events[i].call, false, i});
    points.push_back({events[i].ret, true, i});
  }
  // At one moment calls come first: then more orders are allowed, never fewer.
  std::ranges::stable_sort(points, [](const Point& a, const Point& b) {
    return a.time != b.time ? a.time < b.time : a.is_return < b.is_return;
  });
  Search search(events, rules);
  for (const Point& point : points) {
    if (!point.is_return) {
      if (!search.begin(point.event)) return {BlockVerdict::Kind::undecided, "too much at once"};
      continue;
    }
    const Search::Step step = search.end(point.event);
    if (step == Search::Step::too_many) return {BlockVerdict::Kind::undecided, "too many states"};
    if (step == Search::Step::impossible) {
      return {BlockVerdict::Kind::anomaly, story_of(events, point.event)};
    }
  }
  return {};
}

}  // namespace membrain
