#include "cache/node/shard_directory.h"

#include <utility>

#include "base/check.h"
#include "protocol/leader_address.h"

namespace membrain {

ShardDirectory::ShardDirectory(Fabric& fabric, const LinkConfig& config, Changed changed)
    : fabric_(fabric),
      loop_(fabric.loop()),
      config_(config),
      changed_(std::move(changed)),
      calls_(fabric) {}

ShardDirectory::~ShardDirectory() {
  check(idle(), "a shard directory was destroyed while it asked");
}

void ShardDirectory::configure() {
  servers_ = Servers(config_.server);
}

Duration ShardDirectory::backoff(std::uint32_t failures) const noexcept {
  const bool several = servers_.count() > 1;
  return config_.backoff(failures, several ? config_.longest_of_several : config_.longest_backoff);
}

TimePoint ShardDirectory::connect_deadline() const noexcept {
  return servers_.patience(loop_.now(), loop_.now() + config_.connect_timeout);
}

TimePoint ShardDirectory::connect_deadline(const Address& leader,
                                           const Address& silent) const noexcept {
  const TimePoint usual = connect_deadline();
  if (servers_.count() == 1) return usual;
  return Servers::patience_with(leader, silent, loop_.now(), usual);
}

Task<Result<>> ShardDirectory::ask(bool elsewhere, Address last) {
  if (stopped_) co_return fail(Errc::cancelled, "the node is stopping");
  Completion answered(loop_.ready());
  waiting_.push_back(&answered);
  if (!std::exchange(asking_, true)) {
    if (elsewhere) servers_.next();
    servers_.leave(last);
    loop_.spawn(question());
  }
  const Result<> outcome = co_await answered;
  co_return outcome;
}

Task<> ShardDirectory::question() {
  Result<> outcome = fail(Errc::unavailable, "no server was asked");
  for (std::size_t tried = 0; tried < servers_.count() && !stopped_; ++tried) {
    Task<Result<>> asking = ask_server();
    outcome = co_await asking;
    if (outcome) break;
    servers_.next();
  }
  asking_ = false;
  for (Completion* const waiting : std::exchange(waiting_, {})) waiting->finish(outcome);
}

Task<Result<>> ShardDirectory::ask_server() {
  const TimePoint deadline = connect_deadline();
  Task<Result<PeerId>> connecting = fabric_.connect(servers_.current(), deadline);
  const Result<PeerId> peer = co_await connecting;
  if (!peer) co_return fail(peer.error());
  Result<> outcome = fail(Errc::cancelled, "the node is stopping");
  if (!stopped_) {
    peer_ = *peer;
    const TimePoint patience = servers_.patience(loop_.now(), loop_.now() + config_.answer_timeout);
    Task<Result<wire::ShardList>> calling =
        calls_.call<wire::ShardList>(*peer, wire::Shards{}, patience);
    const Result<wire::ShardList> list = co_await calling;
    outcome = list ? take(*list) : fail(list.error());
    peer_ = {};
  }
  loop_.spawn(close(*peer));
  co_return outcome;
}

Task<> ShardDirectory::close(PeerId peer) {
  ++closing_;
  Task<> closing = fabric_.close(peer);
  co_await closing;
  --closing_;
}

Result<> ShardDirectory::take(const wire::ShardList& list) {
  Result<ShardMap> map = ShardMap::from(list);
  if (!map) return fail(map.error());
  if (map_ && map->version() == map_->version() && *map != *map_) {
    return fail(Errc::corrupt, "this version of the map of shards is known with other ranges");
  }
  const bool newer = !map_ || map->version() > map_->version();
  if (newer) {
    map_ = std::move(*map);
    leaders_.clear();
  }
  for (const wire::ShardEntry& entry : list.shards) {
    if (map_->index_of(entry.shard) == map_->count()) continue;
    leaders_[entry.shard] = leader_address(entry.leader, servers_.current());
  }
  if (newer) changed_(*map_);
  return {};
}

Task<Result<Address>> ShardDirectory::find_leader(ShardId shard, bool elsewhere, Address last) {
  Task<Result<>> asking = ask(elsewhere, std::move(last));
  const Result<> asked = co_await asking;
  const auto known = leaders_.find(shard);
  if (known != leaders_.end() && !known->second.empty() && !stopped_) co_return known->second;
  if (!asked) co_return fail(asked.error());
  co_return fail(Errc::unavailable, "no server knows who leads this shard");
}

Task<Result<>> ShardDirectory::reach(std::uint32_t version, TimePoint deadline) {
  for (bool elsewhere = false; !map_ || map_->version() < version; elsewhere = true) {
    if (stopped_ || loop_.now() >= deadline) {
      co_return fail(Errc::unavailable, "no server has the map of shards that the leader has");
    }
    const TimePoint soon = loop_.now() + config_.first_backoff;
    if (elsewhere) co_await loop_.sleep_until(soon);
    Task<Result<>> asking = ask(elsewhere);
    const Result<> asked = co_await asking;
    static_cast<void>(asked);  // whether it is there now is what counts
  }
  co_return Result<>{};
}

void ShardDirectory::stop() {
  stopped_ = true;
  calls_.cancel_all();
}

void ShardDirectory::on_message(PeerId peer, std::span<const std::byte> bytes) {
  const Result<wire::Frame> frame = wire::read_frame(bytes);
  if (!frame) return calls_.on_lost(peer);
  static_cast<void>(calls_.on_frame(peer, *frame));  // late or repeated: of no use
}

void ShardDirectory::on_lost(PeerId peer) {
  calls_.on_lost(peer);
}

}  // namespace membrain
