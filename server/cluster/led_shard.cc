#include "server/cluster/led_shard.h"

#include <utility>

#include "base/check.h"
#include "transport/deliver.h"

namespace membrain {

LedShard::LedShard(Fabric& fabric, LeaderWatch* watch, Membership& membership, ShardConfig config,
                   std::shared_ptr<ShardRoster> roster)
    : home_(membership.loop()),
      shard_loop_(fabric.loop()),
      shard_(config.shard),
      roster_(std::move(roster)),
      watch_(watch),
      handed_over_(home_.ready()),
      holds_until_(TimePoint::min().time_since_epoch().count()),
      service_(fabric, std::move(config)),
      election_(membership, shard_, *this) {}

LedShard::~LedShard() {
  check(handing_over_ == 0, "a LedShard was destroyed before it was stopped");
}

void LedShard::start(const Address& address) {
  address_ = address;
  election_.start(address);
}

Task<> LedShard::resign() {
  Task<> resigned = election_.stop();
  co_await resigned;
  while (handing_over_ != 0) co_await handed_over_;
  // What it serves now is served when the next job has its turn.
  Completion served(home_.ready());
  const auto answer = [this, &served] { shard_loop_.spawn(tell(served)); };
  Task<> delivered = deliver(home_, shard_loop_, answer);
  co_await delivered;
  static_cast<void>(co_await served);
}

Task<> LedShard::stop() {
  Task<> resigned = resign();
  co_await resigned;
  Completion ended(home_.ready());
  const auto end = [this, &ended] { shard_loop_.spawn(end_service(ended)); };
  Task<> delivered = deliver(home_, shard_loop_, end);
  co_await delivered;
  static_cast<void>(co_await ended);
  while (handing_over_ != 0) co_await handed_over_;
}

Task<> LedShard::end_service(Completion& ended) {
  Task<> stopped = service_.stop();
  co_await stopped;
  Task<> told = tell(ended);
  co_await told;
}

Task<> LedShard::tell(Completion& ended) {
  const auto finish = [&ended] { ended.finish({}); };
  Task<> delivered = deliver(shard_loop_, home_, finish);
  co_await delivered;
}

void LedShard::on_lead(Term term) {
  roster_->set_leader(shard_, address_);
  if (watch_ != nullptr) watch_->follow(election_, {}, {});
  assign(std::move(term), address_);
}

void LedShard::on_follow(const std::string& leader, LeaseId lease) {
  roster_->set_leader(shard_, leader);
  assign(std::nullopt, leader);
  if (watch_ != nullptr) watch_->follow(election_, leader, lease);
}

void LedShard::assign(std::optional<Term> term, const Address& leader) {
  {
    const std::lock_guard lock(mutex_);
    office_ = {office_.number + 1, std::move(term), leader};
  }
  home_.spawn(hand_over([this] { take_office(); }));
}

/// Whatever was said last: words that were overtaken are skipped.
void LedShard::take_office() {
  Office office;
  {
    const std::lock_guard lock(mutex_);
    if (office_.number == taken_) return;
    taken_ = office_.number;
    office = office_;
  }
  service_.follow(office.leader);
  if (office.term) service_.lead(std::move(*office.term), *this);
}

Task<> LedShard::hand_over(std::function<void()> job) {
  ++handing_over_;
  Task<> delivered = deliver(home_, shard_loop_, std::move(job));
  co_await delivered;
  if (--handing_over_ == 0) handed_over_.raise();
}

Task<Result<>> LedShard::set_era(Epoch epoch, NamespaceId space, Era era) {
  Completion kept(shard_loop_.ready());
  const auto keep = [this, epoch, space, era, &kept] {
    home_.spawn(keep_era(epoch, space, era, kept));
  };
  Task<> delivered = deliver(shard_loop_, home_, keep);
  co_await delivered;
  co_return co_await kept;
}

Task<> LedShard::keep_era(Epoch epoch, NamespaceId space, Era era, Completion& kept) {
  Task<Result<>> keeping = election_.set_era(epoch, space, era);
  const Result<> outcome = co_await keeping;
  const auto finish = [&kept, outcome] { kept.finish(outcome); };
  Task<> delivered = deliver(home_, shard_loop_, finish);
  co_await delivered;
}

}  // namespace membrain
