#include "cache/client/cluster_session.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "protocol/leader_address.h"
#include "protocol/proofs.h"

namespace membrain {

ClusterSession::ClusterSession(Fabric& control, const ClientConfig& config,
                               ClusterListener& listener)
    : fabric_(control),
      loop_(control.loop()),
      config_(config),
      listener_(listener),
      tenant_key_(membrain::tenant_key(config.secret, config.tenant)),
      servers_(config.server),
      calls_(control),
      stop_signal_(loop_.ready()) {
  fabric_.set_receiver(*this);
}

ClusterSession::~ClusterSession() {
  check(running_ == 0, "a ClusterSession was destroyed before it was stopped");
}

// ---- life

template <class Make>
Task<> ClusterSession::for_each_shard(Make make) {
  Completion all(loop_.ready(), static_cast<std::uint32_t>(places_.size()));
  const std::vector<ShardSession*> sessions = places_;  // a split may add to them meanwhile
  for (ShardSession* const session : sessions) {
    loop_.spawn([](Task<> task, Completion& ended) -> Task<> {
      co_await task;
      ended.finish({});
    }(make(*session), all));
  }
  static_cast<void>(co_await all);
}

Task<Result<>> ClusterSession::start() {
  const TimePoint deadline = loop_.now() + config_.connect_timeout;
  Result<> outcome;
  do {
    Task<Result<>> asking = ask_servers(deadline, [](const wire::ShardList&) { return true; });
    outcome = co_await asking;
    if (outcome || outcome.error().code == Errc::denied || servers_.count() == 1) break;
    const TimePoint later = loop_.now() + Circuit::kLongestOfSeveral;
    co_await loop_.sleep_until(later);
  } while (loop_.now() < deadline);
  if (!outcome && outcome.error().code == Errc::timed_out) {
    outcome = fail(Errc::unavailable, "no server answers there");
  }
  if (outcome) {
    Result<> failed;
    Task<> starting = for_each_shard([&failed, deadline](ShardSession& session) {
      return [](ShardSession& one, TimePoint until, Result<>& why) -> Task<> {
        Task<Result<>> begun = one.start(until);
        const Result<> ended = co_await begun;
        if (!ended) why = ended;
      }(session, deadline, failed);
    });
    co_await starting;
    if (!here()) outcome = failed;
  }
  if (outcome) {
    living_ = true;
    for (const auto& [shard, session] : sessions_) session->keep();
  }
  if (const PeerId unused = take_connection(spare_ ? spare_->address : Address())) {
    Task<> closed = close(unused);
    co_await closed;
  }
  co_return outcome;
}

Task<> ClusterSession::stop() {
  stopping_ = true;
  calls_.cancel_all();
  Task<> stopping = for_each_shard([](ShardSession& session) { return session.stop(); });
  co_await stopping;
  if (const PeerId unused = take_connection(spare_ ? spare_->address : Address())) {
    Task<> closed = close(unused);
    co_await closed;
  }
  while (running_ != 0) co_await stop_signal_;
}

bool ClusterSession::here() const noexcept {
  return std::ranges::any_of(places_, [](const ShardSession* one) { return one->here(); });
}

std::size_t ClusterSession::max_keys() const noexcept {
  std::size_t least = wire::kMaxKeys;
  for (const ShardSession* const one : places_) {
    if (one->here()) least = std::min(least, one->max_keys());
  }
  return least;
}

Task<> ClusterSession::close(PeerId peer) {
  ++running_;
  calls_.on_lost(peer);
  Task<> closed = fabric_.close(peer);
  co_await closed;
  --running_;
  stop_signal_.raise();
}

// ---- which shards there are, and where

template <class Enough>
Task<Result<>> ClusterSession::ask_servers(TimePoint deadline, Enough enough) {
  Result<> outcome = fail(Errc::unavailable, "no server answers there");
  for (std::size_t tried = 0; tried < servers_.count(); ++tried) {
    const TimePoint now = loop_.now();
    if (stopping_ || (tried > 0 && now >= deadline)) break;
    Task<Result<wire::ShardList>> asking =
        ask_server(servers_.current(), servers_.patience(now, deadline));
    const Result<wire::ShardList> list = co_await asking;
    outcome = list ? take(*list) : Result<>(fail(list.error()));
    if (!outcome && outcome.error().code == Errc::denied) break;
    if (outcome && enough(*list)) break;
    servers_.next();
  }
  co_return outcome;
}

Task<Result<wire::ShardList>> ClusterSession::ask_server(Address server, TimePoint deadline) {
  PeerId peer = take_connection(server);
  if (!peer) {
    Task<Result<PeerId>> connecting = fabric_.connect(server, deadline);
    const Result<PeerId> connected = co_await connecting;
    if (!connected) co_return fail(connected.error());
    peer = *connected;
  }
  fronts_.push_back(peer);
  Task<Result<wire::ShardList>> asking =
      calls_.call<wire::ShardList>(peer, wire::Shards{}, deadline);
  Result<wire::ShardList> list = co_await asking;
  if (list) {
    for (wire::ShardEntry& entry : list->shards) {
      entry.leader = leader_address(entry.leader, server);
    }
  }
  const bool lost = std::erase(fronts_, peer) == 0;
  const bool leads = list && std::ranges::any_of(list->shards, [&](const wire::ShardEntry& one) {
                       return one.leader == server;
                     });
  if (leads && !spare_ && !lost && !stopping_) {
    spare_ = Front{std::move(server), peer};
  } else if (!lost) {
    Task<> closed = close(peer);
    co_await closed;
  }
  co_return std::move(list);
}

PeerId ClusterSession::take_connection(const Address& server) {
  if (!spare_ || spare_->address != server) return {};
  const PeerId peer = spare_->peer;
  spare_.reset();
  return peer;
}

Result<> ClusterSession::take(const wire::ShardList& list) {
  const Result<ShardMap> map = ShardMap::from(list);
  if (!map) return fail(map.error());
  const bool known = !places_.empty();
  if (known && map->version() == map_.version() && *map != map_) {
    return fail(Errc::corrupt, "this version of the map of shards is known with other ranges");
  }
  if (known && map->version() < map_.version()) {
    return fail(Errc::unavailable, "a server goes by a map of shards that is over");
  }
  if (!known || map->version() > map_.version()) adopt(*map);
  for (const wire::ShardEntry& entry : list.shards) {
    if (!entry.leader.empty()) leaders_[entry.shard] = entry.leader;
  }
  return {};
}

void ClusterSession::adopt(const ShardMap& map) {
  const ShardMap before = std::exchange(map_, map);
  const std::vector<ShardSession*> former = std::exchange(places_, {});
  for (std::size_t i = 0; i < map.count(); ++i) {
    std::unique_ptr<ShardSession>& session = sessions_[map.shard(i)];
    if (session) {
      session->set_range(map.range(i));
    } else {
      LeaderFinder& leaders = *this;
      SessionListener& listener = *this;
      session = std::make_unique<ShardSession>(fabric_, config_, map.shard(i), map.range(i),
                                               leaders, listener);
      const BlockKey lowest{0, map.range(i).first};
      if (!former.empty()) session->inherit(*former[before.index_of(lowest)]);
      if (living_ && !stopping_) session->keep();
    }
    places_.push_back(session.get());
  }
}

Address ClusterSession::known_leader(ShardId shard) const {
  const auto known = leaders_.find(shard);
  return known == leaders_.end() ? Address() : known->second;
}

Task<Result<Address>> ClusterSession::find_leader(ShardId shard, Address last, TimePoint deadline) {
  servers_.leave(last);
  Address leader;
  Task<Result<>> asking = ask_servers(deadline, [shard, &leader](const wire::ShardList& list) {
    for (const wire::ShardEntry& entry : list.shards) {
      if (entry.shard == shard) leader = entry.leader;
    }
    return !leader.empty();
  });
  const Result<> asked = co_await asking;
  if (!leader.empty()) co_return leader;
  if (!asked) co_return fail(asked.error());
  co_return fail(Errc::unavailable, "nobody leads this shard now");
}

Task<Result<>> ClusterSession::renew_map(std::uint32_t version, TimePoint deadline) {
  if (version <= map_.version()) co_return Result<>{};
  Task<Result<>> asking = ask_servers(
      deadline, [version](const wire::ShardList& list) { return list.version >= version; });
  const Result<> asked = co_await asking;
  if (version <= map_.version()) co_return Result<>{};
  if (!asked) co_return asked;
  co_return fail(Errc::unavailable, "no server knows the map of shards that is in force");
}

void ClusterSession::doubt_map() {
  if (stopping_ || std::exchange(doubting_, true)) return;
  loop_.spawn(renew_in_background());
}

Task<> ClusterSession::renew_in_background() {
  ++running_;
  const TimePoint deadline = loop_.now() + Servers::kPatience;
  Task<Result<>> renewing = renew_map(map_.version() + 1, deadline);
  static_cast<void>(co_await renewing);
  doubting_ = false;
  --running_;
  stop_signal_.raise();
}

// ---- what sessions tell

/// Whose proof is shown: the one that was, while its shard is here.
const ShardSession* ClusterSession::proved() const noexcept {
  const auto present = sessions_.find(proof_of_);
  if (present != sessions_.end() && present->second->here()) return present->second.get();
  for (const ShardSession* const one : places_) {
    if (one->here()) return one;
  }
  return nullptr;
}

void ClusterSession::on_here(const ShardSession& session) {
  const ShardSession* const shown = proved();
  if (shown == nullptr || (told_here_ && shown->shard() == proof_of_ && shown != &session)) return;
  told_here_ = true;
  proof_of_ = shown->shard();
  listener_.on_here(shown->proof());
}

void ClusterSession::on_away(const ShardSession& session) {
  const ShardSession* const shown = proved();
  if (shown == nullptr) {
    if (std::exchange(told_here_, false)) listener_.on_away();
  } else if (session.shard() == proof_of_) {
    proof_of_ = shown->shard();
    listener_.on_here(shown->proof());
  }
}

void ClusterSession::on_nodes(const ShardSession&) {
  listener_.on_nodes(all_nodes());
}

/// Each node once: its latest life, as shards that are here know it if there are any.
std::vector<wire::NodeEntry> ClusterSession::all_nodes() const {
  if (places_.size() == 1) return places_.front()->nodes();
  struct Known {
    const wire::NodeEntry* entry = nullptr;  ///< where its session keeps it
    bool fresh = false;
  };
  const auto rank = [](const Known& one) {
    return std::tuple(one.entry->incarnation, one.fresh, one.entry->alive);
  };
  std::map<NodeId, Known> known;
  for (const ShardSession* const session : places_) {
    for (const wire::NodeEntry& entry : session->nodes()) {
      const Known one{&entry, session->here()};
      const auto [place, added] = known.try_emplace(entry.node, one);
      if (!added && rank(one) > rank(place->second)) place->second = one;
    }
  }
  std::vector<wire::NodeEntry> all;
  all.reserve(known.size());
  for (const auto& [node, one] : known) all.push_back(*one.entry);
  return all;
}

void ClusterSession::on_message(PeerId peer, std::span<const std::byte> bytes, Payload) {
  for (const auto& [shard, session] : sessions_) {
    if (session->is(peer)) return session->on_message(peer, bytes);
  }
  const Result<wire::Frame> frame = wire::read_frame(bytes);
  if (frame) {
    calls_.on_frame(peer, *frame);
  } else if (std::erase(fronts_, peer) > 0) {
    loop_.spawn(close(peer));
  }
}

void ClusterSession::on_lost(PeerId peer, const Error&) {
  std::erase(fronts_, peer);
  calls_.on_lost(peer);
  if (spare_ && spare_->peer == peer) spare_.reset();
  for (const auto& [shard, session] : sessions_) {
    if (session->is(peer)) return session->on_lost(peer);
  }
}

}  // namespace membrain
