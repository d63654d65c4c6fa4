#include "server/cluster/led_shard.h"

#include <utility>

namespace membrain {

LedShard::LedShard(Fabric& fabric, Fabric* watch, Membership& membership, ShardConfig config)
    : service_(fabric, config), election_(membership, config.shard, *this) {
  if (watch != nullptr) watch_ = std::make_unique<LeaderWatch>(*watch, membership, election_);
}

Task<> LedShard::stop() {
  Task<> resigned = election_.stop();
  co_await resigned;
  if (watch_) {
    Task<> unwatched = watch_->stop();
    co_await unwatched;
  }
  Task<> stopped = service_.stop();
  co_await stopped;
}

void LedShard::on_lead(Term term) {
  if (watch_) watch_->follow({}, {});
  service_.lead(std::move(term), election_);
}

void LedShard::on_follow(const std::string& leader, LeaseId lease) {
  service_.follow(leader);
  if (watch_) watch_->follow(leader, lease);
}

}  // namespace membrain
