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
/// The longest that a follower waits before it campaigns when a leader has gone: several times what
/// a change in etcd takes, and little beside the 120 ms that blocks cannot be found.
constexpr Duration kStagger = std::chrono::milliseconds(10);
/// For this long an empty place is left to the server that is wanted there.
constexpr Duration kCourtesy = std::chrono::seconds(1);

Era era_in(const CoordinationEntry& entry) {
  Era era;
  std::from_chars(entry.value.data(), entry.value.data() + entry.value.size(), era.value);
  return era;
}

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
  membership_.remove(*this);
}

void Election::start(const std::string& address) {
  address_ = address;
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
  tell_hold();
  wake_.raise();
}

void Election::tell_hold() {
  const bool ours = epoch_ && lease_ == membership_.lease();
  listener_.on_hold(ours ? membership_.valid_until() : TimePoint::min());
}

Task<> Election::run() {
  while (!stopping_) {
    if (!membership_.valid(loop_.clock().now())) {
      // It may be told of no change: a renewal that was answered late, after a pause of this
      // process, makes the same lease good again.
      Task<> pausing = wait_for_news(UINT64_MAX, jitter_.draw(kRetry));
      co_await pausing;
      continue;
    }
    Task<Result<Revision>> stepping = step();
    const Result<Revision> seen = co_await stepping;
    if (stopping_) break;
    Task<> waiting =
        seen ? wait_for_news(*seen, kLongestWatch) : wait_for_news(UINT64_MAX, pause());
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
  const ShardWishes wishes = ShardWishes::of(*view, membership_.names(), shard_);
  if (leader == nullptr) {
    if (others_first(wishes)) co_return fail(Errc::unavailable, "it may be another's turn");
    const bool founded = view->find(membership_.names().founded(shard_)) != nullptr;
    Task<Result<>> campaigning = campaign(founded);
    const Result<> won = co_await campaigning;
    if (!won) co_return fail(won.error());
    co_return view->revision;  // what was just put there is the news
  }
  yields_until_ = campaigns_at_ = {};
  if (leader->lease && leader->lease == membership_.lease()) {
    Task<Result<>> holding = hold(*view, *leader);
    if (const Result<> held = co_await holding; !held) co_return fail(held.error());
  } else {
    follow(leader->value, leader->lease);
    Task<Result<>> saying = say_ready(wishes);
    if (const Result<> said = co_await saying; !said) co_return fail(said.error());
  }
  co_return view->revision;
}

/// The place is empty: it is left to who is wanted there for a while, and for a moment to whichever
/// follower is first.
bool Election::others_first(const ShardWishes& wishes) {
  const std::string& self = membership_.config().name;
  const bool followed = place_ == Place::follows && lease_.value != 0;
  if (followed && wishes.leader != self) {
    campaigns_at_ = loop_.now() + jitter_.draw(2 * kStagger) - kStagger;
  }
  follow({}, {});
  const bool yields = wishes.another(self);
  if (yields && yields_until_ == TimePoint{}) yields_until_ = loop_.now() + kCourtesy;
  return loop_.now() < campaigns_at_ || (yields && loop_.now() < yields_until_);
}

/// Until the next look, if there are no news.
Duration Election::pause() {
  const TimePoint now = loop_.now();
  return now < campaigns_at_ ? campaigns_at_ - now : jitter_.draw(kRetry);
}

/// The place is ours: serves, or makes way, as it is wished.
Task<Result<>> Election::hold(CoordinationView view, CoordinationEntry leader) {
  const ClusterNames& names = membership_.names();
  const ShardWishes wishes = ShardWishes::of(view, names, shard_);
  const Epoch epoch{leader.created};
  if (wishes.another(membership_.config().name) && wishes.ready_since != yielded_to_) {
    yielded_to_ = wishes.ready_since;
    end_term(epoch);
  }
  if (wishes.split) {
    Task<Result<>> splitting = split(std::move(view), epoch, *wishes.split);
    co_return co_await splitting;
  }
  if (ended_term_ == epoch) {
    Task<Result<>> resigning = make(resignation(names, shard_, epoch));
    co_return co_await resigning;
  }
  if (place_ == Place::leads && epoch_ == epoch) co_return Result<>{};
  // Read after our name was put there: while it stands nobody changes this shard's range.
  Task<Result<CoordinationView>> reading =
      coordination_.read(names.map(), loop_.now() + patience());
  const Result<CoordinationView> found = co_await reading;
  if (!found) co_return fail(found.error());
  const CoordinationEntry* const entry = found->find(names.map());
  const Result<ShardMap> map = entry == nullptr ? ShardMap() : ShardMap::parse(entry->value);
  if (!map) co_return fail(map.error());
  if (leader.lease != membership_.lease()) co_return fail(Errc::unavailable, "the lease went");
  if (map->index_of(shard_) == map->count()) {
    co_return fail(Errc::not_found, "the map of shards does not have this one");
  }
  lead(view, leader, *map);
  co_return Result<>{};
}

/// Eras go with the split. Those that are set until the term ends are in the second look; what is
/// set later is answered as a failure.
Task<Result<>> Election::split(CoordinationView view, Epoch epoch, ShardId fresh) {
  const ClusterNames& names = membership_.names();
  Task<Result<CoordinationView>> reading =
      coordination_.read(names.map(), loop_.now() + patience());
  const Result<CoordinationView> found = co_await reading;
  if (!found) co_return fail(found.error());
  const CoordinationEntry* const map = found->find(names.map());
  Result<CoordinationChange> change = fail(Errc::not_found, "there is no map of shards");
  if (map != nullptr) change = splitting(names, shard_, epoch, fresh, view, *map);
  if (!change) {
    log(LogLevel::warn, "shard {} is not split: {}", shard_.value, change.error().context);
    change = dropping_split(names, shard_, epoch);
  } else {
    end_term(epoch);
    Task<Result<CoordinationView>> looking =
        coordination_.read(names.shard(shard_), loop_.now() + patience());
    const Result<CoordinationView> now = co_await looking;
    if (!now) co_return fail(now.error());
    change = splitting(names, shard_, epoch, fresh, *now, *map);
    if (!change) co_return fail(change.error());
  }
  Task<Result<>> making = make(std::move(*change));
  co_return co_await making;
}

/// What was not done because something has changed is looked at again soon.
Task<Result<>> Election::make(CoordinationChange change) {
  Task<Result<Committed>> committing =
      coordination_.commit(std::move(change), loop_.now() + patience());
  const Result<Committed> committed = co_await committing;
  if (!committed) co_return fail(committed.error());
  if (!committed->done) co_return fail(Errc::stale, "something has changed meanwhile");
  co_return Result<>{};
}

/// Whoever is wanted and does not lead says that it is ready: again after a while, for whom it has
/// been said before may have made way in vain.
Task<Result<>> Election::say_ready(ShardWishes wishes) {
  const std::string& self = membership_.config().name;
  const LeaseId lease = membership_.lease();
  if (wishes.leader != self || !lease) co_return Result<>{};
  if (wishes.ready == self && loop_.now() < said_ready_ + kLongestWatch / 2) co_return Result<>{};
  said_ready_ = loop_.now();
  CoordinationChange change;
  change.puts.push_back({membership_.names().ready(shard_), self, lease});
  Task<Result<>> making = make(std::move(change));
  co_return co_await making;
}

/// Serves no more, in a term that has yet to be ended where all see it; never again in that term.
void Election::end_term(Epoch epoch) {
  ended_term_ = epoch;
  if (place_ == Place::leads) follow({}, {});
}

Task<Result<>> Election::campaign(bool founded) {
  const LeaseId lease = membership_.lease();
  if (!lease) co_return fail(Errc::unavailable, "the lease went");  // while this server looked
  const ClusterNames& names = membership_.names();
  CoordinationChange change;
  change.if_created.push_back({names.leader(shard_), 0});
  change.puts.push_back({names.leader(shard_), address_, lease});
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
          self.coordination_.changed(self.membership_.names().shard(self.shard_), from, deadline);
      co_await changing;
      self.watching_ = false;
      self.wake_.raise();
    }(*this, after, until));
  }
  Timer timer(loop_, [this] { wake_.raise(); });
  timer.arm(until);
  co_await wake_;
}

void Election::lead(const CoordinationView& view, const CoordinationEntry& leader,
                    const ShardMap& map) {
  const Epoch epoch{leader.created};
  const ClusterNames& names = membership_.names();
  Term term;
  term.epoch = epoch;
  term.range = map.range(map.index_of(shard_));
  term.map_version = map.version();
  const CoordinationEntry* const founded = view.find(names.founded(shard_));
  term.first = founded != nullptr && founded->created == leader.created;
  for (const CoordinationEntry& entry : view.entries) {
    const auto space = names.space_of(shard_, entry.key);
    if (space) term.eras[*space] = era_in(entry);
  }
  place_ = Place::leads;
  epoch_ = epoch;
  lease_ = leader.lease;
  tell_hold();
  listener_.on_lead(std::move(term));
}

void Election::follow(const std::string& leader, LeaseId lease) {
  if (place_ == Place::follows && lease_ == lease) return;
  place_ = Place::follows;
  epoch_ = {};
  lease_ = lease;
  tell_hold();
  listener_.on_follow(leader, lease);
}

/// A call may reach etcd long after a later one, or after its deadline: what is written depends on
/// what is there.
Task<Result<>> Election::set_era(Epoch epoch, NamespaceId space, Era era) {
  const ClusterNames& names = membership_.names();
  const std::string key = names.era(shard_, space);
  const TimePoint deadline = loop_.now() + patience();
  while (place_ == Place::leads && epoch_ == epoch) {
    Task<Result<CoordinationView>> reading = coordination_.read(key, deadline);
    const Result<CoordinationView> view = co_await reading;
    if (!view) co_return fail(view.error());
    const CoordinationEntry* const kept = view->find(key);
    if (kept != nullptr && era_in(*kept) >= era) co_return Result<>{};
    CoordinationChange change;
    change.if_created.push_back({names.leader(shard_), epoch.value});
    if (kept == nullptr) {
      change.if_created.push_back({key, 0});
    } else {
      change.if_modified.push_back({key, kept->modified});
    }
    change.puts.push_back({key, std::to_string(era.value), LeaseId{}});
    Task<Result<Committed>> committing = coordination_.commit(std::move(change), deadline);
    const Result<Committed> committed = co_await committing;
    if (!committed) co_return fail(committed.error());
    if (committed->done) co_return Result<>{};
    wake_.raise();  // either another leads, or another call was faster
    if (loop_.now() >= deadline) co_return fail(Errc::timed_out, "the era could not be set");
  }
  co_return fail(Errc::unavailable, "another server leads this shard now");
}

}  // namespace membrain
