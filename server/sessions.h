// Sessions and what each of them pins. Pure: time is a parameter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "server/slab.h"

namespace membrain {

struct SessionLimits {
  std::size_t max_sessions = 65536;
  std::size_t max_lookups = 65536;   ///< that pin, of one session
  std::size_t max_pins = 1UL << 24;  ///< of all sessions
  std::size_t max_settled = 4096;    ///< lookup ids that are over, remembered for each session
};

/// What one lookup pins: a set of entries.
struct PinnedLookup {
  std::vector<Ref> entries;             ///< in the order of the request; each once
  std::vector<std::uint32_t> prefixes;  ///< as first answered, by section
};

/// One client's life with this shard.
struct Session {
  SessionId id;
  std::string tenant;
  std::string label;  ///< for people
  TimePoint heard;
  SessionId before;        ///< the session that it goes on from, until it has asserted its pins
  bool asserting = false;  ///< a resumed session names again what it holds
  bool connected = true;
  std::unordered_map<LookupId, PinnedLookup> lookups;

  [[nodiscard]] bool settled(LookupId lookup) const noexcept { return settled_.contains(lookup); }
  /// The lookup is over (unpinned, pinned nothing, or unpinned before it came): it pins no more.
  void settle(LookupId lookup, std::size_t max_settled);

 private:
  std::unordered_set<LookupId> settled_;
  std::deque<LookupId> settled_order_;
};

/// All sessions. It says who has expired; what they pinned is the caller's to unpin.
class Sessions {
 public:
  Sessions(SessionLimits limits, Duration ttl) noexcept : limits_(limits), ttl_(ttl) {}

  /// Null at the bound. `id` is random, and new.
  Session* open(SessionId id, TimePoint now);
  [[nodiscard]] Session* find(SessionId id) noexcept;
  void erase(SessionId id);
  /// Those that were silent for longer than the time to live.
  [[nodiscard]] std::vector<SessionId> expired(TimePoint now) const;
  /// Everybody counts as heard: it was us who did not listen.
  void renew_all(TimePoint now) noexcept;

  [[nodiscard]] const SessionLimits& limits() const noexcept { return limits_; }
  [[nodiscard]] const std::unordered_map<SessionId, Session>& all() const noexcept {
    return sessions_;
  }
  [[nodiscard]] std::size_t count() const noexcept { return sessions_.size(); }

 private:
  SessionLimits limits_;
  Duration ttl_;
  std::unordered_map<SessionId, Session> sessions_;
};

}  // namespace membrain
