#include "server/cluster/server_shards.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace membrain {

namespace {
constexpr Duration kLongestWatch = std::chrono::seconds(10);
constexpr Duration kOneCall = std::chrono::seconds(2);
constexpr Duration kRetry = std::chrono::milliseconds(200);
constexpr ShardId kFront{0};
}  // namespace

ServerShards::ServerShards(Membership& membership, LeaderWatch* watch, ShardHost& host,
                           ShardConfig config, std::size_t shards)
    : membership_(membership),
      watch_(watch),
      host_(host),
      config_(std::move(config)),
      wanted_shards_(shards),
      roster_(std::make_shared<ShardRoster>()),
      ended_(membership.loop().ready()),
      wake_(membership.loop().ready()) {}

ServerShards::~ServerShards() {
  check(!following_ && !watching_, "a server's shards were destroyed before they were stopped");
}

Result<> ServerShards::listen() {
  Result<> stands = stand_for(kFront);
  if (stands) front_ = stands_.at(kFront).shard->service().address();
  return stands;
}

Result<> ServerShards::stand_for(ShardId shard) {
  const Result<ShardHost::Place> place = host_.make_place(shard);
  if (!place) return fail(place.error());
  ShardConfig config = config_;
  config.shard = shard;
  config.roster = roster_;
  Stand stand;
  stand.shard = std::make_unique<LedShard>(*place->fabric, watch_, membership_, config, roster_);
  if (const Result<> listens = stand.shard->listen(place->listen); !listens) return listens;
  stand.address = host_.open_place(shard, stand.shard->service().address());
  stands_.emplace(shard, std::move(stand));
  return {};
}

Result<> ServerShards::adopt(const ShardMap& map) {
  map_ = map;
  roster_->set_map(map);
  Result<> all_stand;
  for (std::size_t i = 0; i < map.count(); ++i) {
    const ShardId shard = map.shard(i);
    if (!stands_.contains(shard)) {
      const Result<> stands = stand_for(shard);
      if (!stands) {  // its port is taken, say: that is no reason to leave the others to nobody
        all_stand = stands;
        continue;
      }
    }
    Stand& stand = stands_.at(shard);
    if (!std::exchange(stand.started, true)) stand.shard->start(stand.address);
  }
  if (all_stand) map_known_ = true;
  return all_stand;
}

void ServerShards::start() {
  following_ = true;
  membership_.loop().spawn(follow_map());
}

Task<Result<Revision>> ServerShards::read_map() {
  const std::string key = membership_.names().map();
  Task<Result<CoordinationView>> reading =
      membership_.coordination().read(key, membership_.loop().now() + kOneCall);
  const Result<CoordinationView> view = co_await reading;
  if (!view) co_return fail(view.error());
  if (stopping_) co_return fail(Errc::cancelled, "the server is stopping");
  const CoordinationEntry* const entry = view->find(key);
  if (entry == nullptr) {
    Task<Result<>> founding = found_map();
    if (const Result<> founded = co_await founding; !founded) co_return fail(founded.error());
    co_return view->revision;  // what was just put there is the news
  }
  const Result<ShardMap> map = ShardMap::parse(entry->value);
  if (!map) co_return fail(map.error());
  if (const Result<> adopted = adopt(*map); !adopted) co_return fail(adopted.error());
  co_return view->revision;
}

/// The first server of a cluster divides the keys; others find that done.
Task<Result<>> ServerShards::found_map() {
  const std::string key = membership_.names().map();
  CoordinationChange change;
  change.if_created.push_back({key, 0});
  change.puts.push_back({key, ShardMap::equal(wanted_shards_).text(), LeaseId{}});
  Task<Result<Committed>> committing =
      membership_.coordination().commit(std::move(change), membership_.loop().now() + kOneCall);
  const Result<Committed> committed = co_await committing;
  if (!committed) co_return fail(committed.error());
  co_return Result<>{};
}

/// Each look reads all that is there; a watch only says when to look again.
Task<> ServerShards::follow_map() {
  Loop& loop = membership_.loop();
  Timer timer(loop, [this] { wake_.raise(); });
  bool complained = false;
  while (!stopping_) {
    Task<Result<Revision>> reading = read_map();
    const Result<Revision> seen = co_await reading;
    if (stopping_) break;
    if (!seen && !std::exchange(complained, true)) {
      log(LogLevel::warn,
          "the map of shards cannot be had, or one of them has no place here: {} ({}); trying on",
          to_string(seen.error().code), seen.error().context);
    }
    if (seen) complained = false;
    const TimePoint until = loop.now() + (seen ? kLongestWatch : kRetry);
    if (seen) watch_map(*seen, until);
    timer.arm(until);
    co_await wake_;
  }
  following_ = false;
  ended_.raise();
}

void ServerShards::watch_map(Revision after, TimePoint until) {
  if (std::exchange(watching_, true)) return;
  membership_.loop().spawn([](ServerShards& self, Revision from, TimePoint deadline) -> Task<> {
    Task<> changing =
        self.membership_.coordination().changed(self.membership_.names().map(), from, deadline);
    co_await changing;
    self.watching_ = false;
    self.wake_.raise();
  }(*this, after, until));
}

template <class Make>
Task<> ServerShards::for_each_stand(Make make) {
  Loop& loop = membership_.loop();
  Completion all(loop.ready(), static_cast<std::uint32_t>(stands_.size()));
  for (const auto& [shard, stand] : stands_) {
    loop.spawn([](Task<> task, Completion& ended) -> Task<> {
      co_await task;
      ended.finish({});
    }(make(*stand.shard), all));
  }
  if (!stands_.empty()) static_cast<void>(co_await all);
}

Task<> ServerShards::resign() {
  stopping_ = true;
  wake_.raise();
  while (following_) co_await ended_;
  Task<> resigning = for_each_stand([](LedShard& shard) { return shard.resign(); });
  co_await resigning;
}

Task<> ServerShards::stop() {
  Task<> resigning = resign();
  co_await resigning;
  Task<> stopping = for_each_stand([](LedShard& shard) { return shard.stop(); });
  co_await stopping;
}

bool ServerShards::settled() const noexcept {
  return map_known_ && std::ranges::all_of(stands_, [](const auto& stand) {
           return stand.second.shard->settled();
         });
}

std::vector<const LedShard*> ServerShards::shards() const {
  std::vector<const LedShard*> all;
  for (const auto& [shard, stand] : stands_) all.push_back(stand.shard.get());
  return all;
}

const LedShard* ServerShards::find(ShardId shard) const noexcept {
  const auto found = stands_.find(shard);
  return found == stands_.end() ? nullptr : found->second.shard.get();
}

}  // namespace membrain
