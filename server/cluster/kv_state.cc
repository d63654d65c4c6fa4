#include "server/cluster/kv_state.h"

#include <algorithm>
#include <vector>

namespace membrain {

LeaseId KvState::grant(Duration ttl, TimePoint now) {
  const LeaseId lease{next_lease_++};
  leases_[lease] = {ttl, now + ttl};
  return lease;
}

std::optional<Duration> KvState::keep_alive(LeaseId id, TimePoint now) {
  const auto lease = leases_.find(id);
  if (lease == leases_.end() || lease->second.ends <= now) return std::nullopt;
  lease->second.ends = now + lease->second.ttl;
  return lease->second.ttl;
}

std::optional<Duration> KvState::renew(LeaseId id) const {
  const auto lease = leases_.find(id);
  if (lease == leases_.end()) return std::nullopt;
  return lease->second.ttl;
}

std::optional<LeaseTime> KvState::time_left(LeaseId id, TimePoint now, Duration grain) const {
  const auto lease = leases_.find(id);
  if (lease == leases_.end()) return std::nullopt;
  const auto grains = std::max<std::int64_t>(0, (lease->second.ends - now) / grain);
  return LeaseTime{grains * grain, lease->second.ttl};
}

void KvState::revoke(LeaseId lease) {
  if (leases_.erase(lease) == 0) return;
  std::vector<std::string> keys;
  for (const auto& [key, entry] : entries_) {
    if (entry.lease == lease) keys.push_back(key);
  }
  if (keys.empty()) return;
  ++revision_;
  for (const std::string& key : keys) entries_.erase(key), note(key);
}

void KvState::expire(TimePoint now) {
  std::vector<LeaseId> over;
  for (const auto& [id, lease] : leases_) {
    if (lease.ends <= now) over.push_back(id);
  }
  for (const LeaseId id : over) revoke(id);
}

std::optional<TimePoint> KvState::next_expiry() const {
  std::optional<TimePoint> next;
  for (const auto& [id, lease] : leases_) {
    if (!next || lease.ends < *next) next = lease.ends;
  }
  return next;
}

CoordinationView KvState::read(std::string_view prefix) const {
  CoordinationView view;
  view.revision = revision_;
  for (auto at = entries_.lower_bound(prefix); at != entries_.end(); ++at) {
    if (!at->first.starts_with(prefix)) break;
    view.entries.push_back(at->second);
  }
  return view;
}

bool KvState::holds(const CoordinationChange& change) const {
  const auto entry_of = [this](const std::string& key) {
    const auto found = entries_.find(key);
    return found == entries_.end() ? CoordinationEntry{} : found->second;
  };
  const auto created = [&](const auto& one) { return entry_of(one.key).created == one.at; };
  const auto modified = [&](const auto& one) { return entry_of(one.key).modified == one.at; };
  const auto alive = [this](const auto& put) { return !put.lease || leases_.contains(put.lease); };
  return std::ranges::all_of(change.if_created, created) &&
         std::ranges::all_of(change.if_modified, modified) &&
         std::ranges::all_of(change.puts, alive);
}

Result<Committed> KvState::commit(const CoordinationChange& change, const Persist& persist) {
  if (!holds(change)) return Committed{false, revision_};
  const Revision next = revision_ + 1;
  Entries entries = entries_;
  for (const std::string& key : change.removals) entries.erase(key);
  for (const CoordinationChange::Put& put : change.puts) {
    CoordinationEntry& entry = entries[put.key];
    entry = {put.key, put.value, entry.created == 0 ? next : entry.created, next, put.lease};
  }
  if (persist) {
    if (const Result<> kept = persist(lasting(entries, next)); !kept) return fail(kept.error());
  }
  entries_ = std::move(entries);
  revision_ = next;
  for (const std::string& key : change.removals) note(key);
  for (const CoordinationChange::Put& put : change.puts) note(put.key);
  return Committed{true, revision_};
}

KvState::WatchId KvState::watch(std::string prefix, Revision after, Fire fire) {
  const WatchId id = next_watch_++;
  const bool seen = std::ranges::any_of(changes_, [&](const auto& change) {
    return change.first > after && change.second.starts_with(prefix);
  });
  if (seen || after < forgotten_) {
    fire();
  } else {
    watches_[id] = {std::move(prefix), std::move(fire)};
  }
  return id;
}

/// Those without a lease: what outlives a process.
CoordinationView KvState::lasting(const Entries& entries, Revision revision) {
  CoordinationView view;
  view.revision = revision;
  for (const auto& [key, entry] : entries) {
    if (!entry.lease) view.entries.push_back(entry);
  }
  return view;
}

void KvState::restore(CoordinationView view) {
  revision_ = forgotten_ = view.revision;
  for (CoordinationEntry& entry : view.entries) entries_[entry.key] = std::move(entry);
}

/// A change of this key in the present revision.
void KvState::note(const std::string& key) {
  changes_.emplace_back(revision_, key);
  if (changes_.size() > kRemembered) {
    forgotten_ = changes_.front().first;
    changes_.pop_front();
  }
  std::vector<Fire> fires;
  for (auto at = watches_.begin(); at != watches_.end();) {
    if (key.starts_with(at->second.prefix)) {
      fires.push_back(std::move(at->second.fire));
      at = watches_.erase(at);
    } else {
      ++at;
    }
  }
  for (const Fire& fire : fires) fire();
}

}  // namespace membrain
