#include "server/cluster/election.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace membrain {

namespace {

constexpr Duration kRetry = std::chrono::milliseconds(200);
constexpr Duration kLongestWatch = std::chrono::seconds(10);

}  // namespace

Election::Election(Membership& membership, ShardId shard, ElectionListener& listener)
    : membership_(membership),
      coordination_(membership.coordination()),
      loop_(membership.loop()),
      shard_(shard),
      listener_(listener),
      jitter_(membership.config().seed * 31 + shard.value),
      wake_(loop_.ready()),
      ended_(loop_.ready()) {
  membership_.add(*this);
}

Election::~Election() {
  check(!running_ && !watching_, "an Election was destroyed while it ran");
}

void Election::start() {
  running_ = true;
  loop_.spawn(run());
}

Task<> Election::stop() {
  stopping_ = true;
  wake_.raise();
  while (running_) co_await ended_;
  follow({}, {});
}

Duration Election::patience() const noexcept {
  return membership_.config().lease / 3;
}

/// The lease is what a term stands on.
void Election::on_lease() {
  if (place_ == Place::leads && lease_ != membership_.lease()) follow({}, {});
  wake_.raise();
}

Task<> Election::run() {
  while (!stopping_) {
    if (!membership_.valid(loop_.clock().now())) {
      co_await wake_;
      continue;
    }
    Task<Result<Revision>> stepping = step();
    const Result<Revision> seen = co_await stepping;
    if (stopping_) break;
    Task<> waiting = seen ? wait_for_news(*seen, kLongestWatch)
                          : wait_for_news(UINT64_MAX, jitter_.draw(kRetry));
    co_await waiting;
  }
  running_ = false;
  ended_.raise();
}

/// Looks at what is there and does what follows from it: the revision after which news count, or an
/// error if it should look again.
Task<Result<Revision>> Election::step() {
  const std::string all = membership_.names().shard(shard_);
  const std::string name = membership_.names().leader(shard_);
  Task<Result<CoordinationView>> reading = coordination_.read(all, loop_.now() + patience());
  const Result<CoordinationView> view = co_await reading;
  if (!view) co_return fail(view.error());
  const CoordinationEntry* const leader = view->find(name);
  if (leader == nullptr) {
    follow({}, {});
    const bool founded = view->find(membership_.names().founded(shard_)) != nullptr;
    Task<Result<>> campaigning = campaign(founded);
    const Result<> won = co_await campaigning;
    if (!won) co_return fail(won.error());
    co_return view->revision;  // what was just put there is the news
  }
  if (leader->lease && leader->lease == membership_.lease()) {
    lead(*view, *leader);
  } else {
    follow(leader->value, leader->lease);
  }
  co_return view->revision;
}

Task<Result<>> Election::campaign(bool founded) {
  const LeaseId lease = membership_.lease();
  if (!lease) co_return fail(Errc::unavailable, "the lease went");  // while this server looked
  const ClusterNames& names = membership_.names();
  CoordinationChange change;
  change.if_created.push_back({names.leader(shard_), 0});
  change.puts.push_back({names.leader(shard_), membership_.config().address, lease});
  if (!founded) {
    change.if_created.push_back({names.founded(shard_), 0});
    change.puts.push_back({names.founded(shard_), membership_.config().name, LeaseId{}});
  }
  Task<Result<Committed>> committing =
      coordination_.commit(std::move(change), loop_.now() + patience());
  const Result<Committed> committed = co_await committing;
  if (!committed && committed.error().code == Errc::not_found) membership_.look();
  if (!committed) co_return fail(committed.error());
  co_return Result<>{};  // done or not: the next look tells
}

/// Until something of the leader's place has changed, or the lease, or `longest` is over. A watch
/// that is still under way tells of all changes since it began.
Task<> Election::wait_for_news(Revision after, Duration longest) {
  const TimePoint until = loop_.now() + longest;
  if (after != UINT64_MAX && !watching_) {
    watching_ = true;
    loop_.spawn([](Election& self, Revision from, TimePoint deadline) -> Task<> {
      Task<> changing =
          self.coordination_.changed(self.membership_.names().leader(self.shard_), from, deadline);
      co_await changing;
      self.watching_ = false;
      self.wake_.raise();
    }(*this, after, until));
  }
  Timer timer(loop_, [this] { wake_.raise(); });
  timer.arm(until);
  co_await wake_;
}

void Election::lead(const CoordinationView& view, const CoordinationEntry& leader) {
  const Epoch epoch{leader.created};
  if (place_ == Place::leads && epoch_ == epoch) return;
  const ClusterNames& names = membership_.names();
  Term term;
  term.epoch = epoch;
  const CoordinationEntry* const founded = view.find(names.founded(shard_));
  term.first = founded != nullptr && founded->created == leader.created;
  for (const CoordinationEntry& entry : view.entries) {
    const auto space = names.space_of(shard_, entry.key);
    if (!space) continue;
    Era era;
    std::from_chars(entry.value.data(), entry.value.data() + entry.value.size(), era.value);
    term.eras[*space] = era;
  }
  place_ = Place::leads;
  epoch_ = epoch;
  lease_ = leader.lease;
  listener_.on_lead(std::move(term));
}

void Election::follow(const std::string& leader, LeaseId lease) {
  if (place_ == Place::follows && lease_ == lease) return;
  place_ = Place::follows;
  epoch_ = {};
  lease_ = lease;
  listener_.on_follow(leader, lease);
}

Task<Result<>> Election::set_era(Epoch epoch, NamespaceId space, Era era) {
  const ClusterNames& names = membership_.names();
  CoordinationChange change;
  change.if_created.push_back({names.leader(shard_), epoch.value});
  change.puts.push_back({names.era(shard_, space), std::to_string(era.value), LeaseId{}});
  Task<Result<Committed>> committing =
      coordination_.commit(std::move(change), loop_.now() + patience());
  const Result<Committed> committed = co_await committing;
  if (!committed) co_return fail(committed.error());
  if (committed->done) co_return Result<>{};
  wake_.raise();
  co_return fail(Errc::unavailable, "another server leads this shard now");
}

}  // namespace membrain
