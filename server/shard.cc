// The shard's sessions, grants, clears, and the passing of time.
#include "server/shard.h"

#include <algorithm>
#include <utility>

#include "base/key.h"
#include "base/log.h"
#include "protocol/proofs.h"

namespace membrain {

namespace {

constexpr std::size_t kNodeListBytes = 192UL * 1024;

std::uint32_t milliseconds_of(Duration time) noexcept {
  return static_cast<std::uint32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(time).count());
}

}  // namespace

Shard::Shard(ShardParams params)
    : params_(std::move(params)),
      free_after_(params_.term.first
                      ? params_.start
                      : params_.start + params_.session_ttl + params_.session_ttl / 1000),
      last_tick_(params_.start),
      policy_(records_),
      catalog_(records_, policy_, params_.expected_blocks, params_.hash_seed),
      spaces_(std::move(params_.term.eras), params_.replicas),
      sessions_(params_.sessions, params_.session_ttl),
      nodes_(params_.node_ttl),
      copies_(catalog_, nodes_, spaces_, params_.copies, params_.start) {}

// ---- sessions

Session* Shard::heard(SessionId id, TimePoint now) {
  Session* session = sessions_.find(id);
  if (session == nullptr) return nullptr;
  session->heard = now;
  // What it has not asserted yet is held by the one before, however long asserting takes.
  Session* before = session->before ? sessions_.find(session->before) : nullptr;
  if (before != nullptr) before->heard = now;
  return session;
}

wire::SessionProof Shard::proof(SessionId session, LookupId grant,
                                std::uint64_t expires_ms) const noexcept {
  wire::SessionProof proof;
  proof.session = session;
  proof.epoch = epoch();
  proof.grant = grant;
  proof.expires_ms = expires_ms;
  proof.mac = session_mac(params_.grant_key, proof);
  return proof;
}

Result<wire::Welcome> Shard::hello(const wire::Hello& hello, SessionId fresh, TimePoint now) {
  Session* session = sessions_.open(fresh, now);
  if (session == nullptr) return fail(Errc::out_of_capacity, "too many sessions");
  session->tenant = hello.tenant;
  session->label = hello.label;
  session->asserting = static_cast<bool>(hello.resume);
  const Session* before = sessions_.find(hello.resume);
  if (before != nullptr && before != session && before->tenant == hello.tenant) {
    session->before = hello.resume;
  }
  return welcome(fresh, now);
}

Result<wire::Welcome> Shard::welcome(SessionId session, TimePoint now) {
  if (heard(session, now) == nullptr) return fail(Errc::denied, "this session is over");
  wire::Welcome welcome;
  welcome.proof = proof(session, LookupId{}, 0);
  welcome.ttl_ms = milliseconds_of(params_.session_ttl);
  welcome.map_version = params_.term.map_version;
  welcome.max_keys = wire::kMaxKeys;
  return welcome;
}

/// A client that goes on with other things has asserted what it still holds: the session that it
/// had before holds nothing for it any more.
void Shard::finish_asserting(Session& session) {
  if (!std::exchange(session.asserting, false)) return;
  if (const SessionId before = std::exchange(session.before, SessionId{})) end_session(before);
}

void Shard::end_session(SessionId id) {
  const Session* session = sessions_.find(id);
  if (session == nullptr) return;
  for (const auto& [lookup, pinned] : session->lookups) release(pinned.entries);
  sessions_.erase(id);
}

void Shard::disconnected(SessionId id) {
  Session* session = sessions_.find(id);
  if (session == nullptr) return;
  session->connected = false;
  if (session->lookups.empty() && !session->before) sessions_.erase(id);
}

Result<wire::NamespaceOpened> Shard::open(SessionId id, const wire::OpenNamespace& request,
                                          TimePoint now) {
  const Session* session = heard(id, now);
  if (session == nullptr) return fail(Errc::denied, "this session is over");
  const auto opened = spaces_.open(request.digest, request.family, session->tenant, request.label);
  if (!opened) return fail(opened.error());
  if (spaces_.ask(opened->space, request.replicas, request.zones)) copies_.recount();
  wire::NamespaceOpened answer;
  answer.id = spaces_[opened->space].id;
  answer.era = spaces_[opened->space].era;
  answer.other_seed = opened->other_seed;
  return answer;
}

Result<wire::Alive> Shard::heartbeat(SessionId id, TimePoint now) {
  Session* session = heard(id, now);
  if (session == nullptr) return fail(Errc::denied, "this session is over");
  finish_asserting(*session);
  return wire::Alive{params_.term.map_version};
}

Result<wire::NodeList> Shard::list_nodes(SessionId id, TimePoint now) {
  Session* session = heard(id, now);
  if (session == nullptr) return fail(Errc::denied, "this session is over");
  finish_asserting(*session);
  return nodes_.list(kNodeListBytes);
}

Result<wire::Granted> Shard::grant(const wire::Grant& request, TimePoint now) {
  const Session* session = heard(request.session, now);
  if (session == nullptr) return fail(Errc::denied, "this session is over");
  if (!session->lookups.contains(request.lookup)) {
    return fail(Errc::not_found, "this lookup pins nothing");
  }
  const auto valid = std::chrono::milliseconds(std::min(request.valid_ms, kMaxGrantMs));
  const auto expires =
      std::chrono::duration_cast<std::chrono::milliseconds>((now + valid).time_since_epoch());
  return wire::Granted{
      proof(request.session, request.lookup, static_cast<std::uint64_t>(expires.count()))};
}

Result<SpaceIndex> Shard::space_of(const Session& session, NamespaceId id) const {
  const SpaceIndex space = spaces_.find(id);
  if (space == kNoSpace || !spaces_[space].opened) {
    return fail(Errc::invalid_argument, "this namespace was not opened");
  }
  if (spaces_[space].tenant != session.tenant) return fail(Errc::denied, "another's namespace");
  return space;
}

Result<Era> Shard::era_after_clear(const wire::Clear& request, TimePoint now) {
  const Session* session = heard(request.session, now);
  if (session == nullptr) return fail(Errc::denied, "this session is over");
  const Result<SpaceIndex> space = space_of(*session, request.space);
  if (!space) return fail(space.error());
  return spaces_.era_after(*space, request.era);
}

void Shard::begin_era(NamespaceId space, Era era) {
  const SpaceIndex index = spaces_.find(space);
  if (index == kNoSpace || !spaces_.begin_era(index, era)) return;
  begin_sweep();
  copies_.recount();
}

// ---- the passing of time

void Shard::tick(TimePoint now) {
  const Duration gap = now - last_tick_;
  last_tick_ = now;
  if (gap > params_.session_ttl / 2) {
    sessions_.renew_all(now);
  } else {
    for (const SessionId id : sessions_.expired(now)) {
      log(LogLevel::info, "session \"{}\" was silent for too long: its pins are dropped",
          sessions_.find(id)->label);
      end_session(id);
      ++totals_.sessions_expired;
    }
  }
  if (gap > params_.node_ttl / 2) {
    nodes_.renew_all(now);
  } else {
    const std::vector<NodeIndex> lost = nodes_.lost(now);
    if (!lost.empty()) drop_nodes(lost, now);
    for (const NodeIndex node : lost) {
      log(LogLevel::warn, "node {} was silent for too long: its blocks leave all answers",
          nodes_[node].id.value);
      nodes_[node].registered = nodes_[node].connected = false;
      if (std::exchange(nodes_[node].leaving, false)) copies_.leavers_changed();
      ++totals_.nodes_lost;
    }
  }
  if (sweeping_ && !in_grace(now)) sweep();
  copies_.tick(now);
}

void Shard::begin_sweep() noexcept {
  sweeping_ = true;
  sweep_next_ = 0;
}

/// Condemns what belongs to eras that are over, a bounded part at a time. Not in the grace period:
/// clients may hold it from the term before.
void Shard::sweep() {
  for (std::size_t looked = 0; looked < kSweepEntries; ++looked, ++sweep_next_) {
    if (sweep_next_ >= records_.entries.end()) {
      sweeping_ = false;
      return;
    }
    const Entry& entry = records_.entries[sweep_next_];
    if (!entry.in_use() || !over(entry) || entry.pins > 0) continue;
    while (entry.replicas != kNoRef) {
      const Replica& replica = records_.replicas[entry.replicas];
      if (nodes_[replica.node].condemned.full()) return;  // its node must answer first
      condemn(entry.replicas);
      ++totals_.cleared;
    }
    catalog_.settle(sweep_next_);
  }
}

// ---- pins

/// Gives one lookup's pins back. From the end: what is deeper in the prompt has been idle longer.
void Shard::release(const std::vector<Ref>& entries) {
  for (auto at = entries.rbegin(); at != entries.rend(); ++at) release(*at);
}

void Shard::release(Ref ref) {
  --pins_;
  if (!catalog_.unpin(ref)) return;
  const Entry& entry = records_.entries[ref];
  const bool all = over(entry) && !in_grace(last_tick_);
  if (over(entry) && !all) begin_sweep();
  for (Ref at = entry.replicas; at != kNoRef;) {
    const Ref next = records_.replicas[at].next;
    if (all || !records_.replicas[at].sound) condemn(at);
    at = next;
  }
  catalog_.settle(ref);
}

Result<wire::Unpinned> Shard::unpin(const wire::Unpin& request, TimePoint now) {
  Session* session = heard(request.session, now);
  if (session == nullptr) return fail(Errc::denied, "this session is over");
  const std::size_t max_settled = sessions_.limits().max_settled;
  for (const wire::UnpinItem& item : request.items) {
    const auto found = session->lookups.find(item.lookup);
    if (found == session->lookups.end()) {
      if (item.keys.empty()) session->settle(item.lookup, max_settled);
      continue;
    }
    std::vector<Ref>& entries = found->second.entries;
    std::vector<Ref> given_back;
    if (item.keys.empty()) {
      given_back.swap(entries);
    } else {
      std::vector<BlockKey> keys = item.keys;
      std::sort(keys.begin(), keys.end());
      const SpaceIndex space = spaces_.find(item.space);
      const auto kept = std::stable_partition(entries.begin(), entries.end(), [&](Ref ref) {
        const Entry& entry = records_.entries[ref];
        return entry.space != space || !std::binary_search(keys.begin(), keys.end(), entry.key);
      });
      given_back.assign(kept, entries.end());
      entries.erase(kept, entries.end());
    }
    release(given_back);
    if (!entries.empty()) continue;
    session->lookups.erase(found);
    session->settle(item.lookup, max_settled);
  }
  return wire::Unpinned{};
}

Result<wire::StatsReply> Shard::stats() const {
  const CatalogCounts& counts = catalog_.counts();
  wire::StatsReply reply;
  const auto add = [&](const char* name, std::uint64_t value) {
    reply.counters.push_back({name, value});
  };
  add("blocks", counts.blocks);
  add("replicas", counts.replicas);
  add("pinned_blocks", counts.pinned_blocks);
  add("pins", pins_);
  add("sessions", sessions_.count());
  add("nodes", nodes_.registered_count());
  add("namespaces", spaces_.count());
  add("lookups", totals_.lookups);
  add("blocks_looked_up", totals_.blocks_looked_up);
  add("blocks_hit", totals_.blocks_hit);
  add("published", totals_.published);
  add("duplicates", totals_.duplicates);
  add("evicted", totals_.evicted);
  add("corrupt", totals_.corrupt);
  add("cleared", totals_.cleared);
  add("sessions_expired", totals_.sessions_expired);
  add("nodes_lost", totals_.nodes_lost);
  add("bytes_held", counts.bytes);
  add("catalog_bytes", catalog_.bytes());
  add("epoch", epoch().value);
  const CopyTotals& copied = copies_.totals();
  add("replicas_wanted", params_.replicas.replicas);
  add("degraded_blocks", copies_.degraded());
  add("copies_under_way", copies_.under_way());
  add("copies", copied.copied);
  add("bytes_copied", copied.copied_bytes);
  add("copies_of_hot_blocks", copied.hot);
  add("copies_failed", copied.failed);
  add("copies_given_up", copied.given_up);
  return reply;
}

}  // namespace membrain
