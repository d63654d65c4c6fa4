#include "server/cluster/sim_coordination.h"

#include <chrono>
#include <utility>

namespace membrain {

namespace {
constexpr std::chrono::seconds kLatest{1};  ///< after its deadline a call may still arrive
}

Task<bool> SimCoordination::travel(TimePoint deadline, double loss) {
  const auto most = static_cast<std::uint64_t>(host_.longest_delay.count());
  const TimePoint there = loop_.now() + Duration(host_.random.below(most + 1));
  const bool unlucky = host_.random.chance(loss);
  if (unlucky) ++host_.lost;
  const bool lost = unlucky || cut_off_ || !host_.quorum || there > deadline;
  const TimePoint until = lost ? deadline : there;
  co_await loop_.sleep_until(until);
  co_return !lost && !cut_off_ && host_.quorum;
}

template <class Answer, class Act>
Task<Result<Answer>> SimCoordination::call(TimePoint deadline, Act act) {
  if (stopping_) co_return fail(Errc::cancelled, "coordination is over");
  ++calls_;
  Task<bool> going = travel(deadline, host_.lost_ask);
  const bool arrived = co_await going;
  if (!arrived) {
    --calls_;
    if (host_.lost_ask > 0 && host_.random.chance(0.5)) loop_.spawn(call_late(std::move(act)));
    co_return fail(Errc::timed_out, "coordination does not answer");
  }
  host_.pass_time(loop_.clock().now());
  Result<Answer> answer = act(host_.state);
  Task<bool> coming = travel(deadline, host_.lost_answer);
  const bool told = co_await coming;
  --calls_;
  if (!told) co_return fail(Errc::timed_out, "coordination does not answer");
  co_return std::move(answer);
}

template <class Act>
Task<> SimCoordination::call_late(Act act) {
  ++calls_;
  const auto most = static_cast<std::uint64_t>(Duration(kLatest).count());
  const TimePoint there = loop_.now() + Duration(host_.random.below(most));
  co_await loop_.sleep_until(there);
  --calls_;
  if (cut_off_ || !host_.quorum) co_return;
  host_.pass_time(loop_.clock().now());
  static_cast<void>(act(host_.state));
}

Task<Result<Lease>> SimCoordination::grant(Duration ttl, TimePoint deadline) {
  return call<Lease>(deadline, [this, ttl](KvState& state) -> Result<Lease> {
    return Lease{state.grant(ttl, loop_.clock().now()), ttl};
  });
}

Task<Result<Duration>> SimCoordination::keep_alive(LeaseId lease, TimePoint deadline) {
  return call<Duration>(deadline, [this, lease](KvState& state) -> Result<Duration> {
    const std::optional<Duration> lasts = state.keep_alive(lease, loop_.clock().now());
    if (!lasts) return fail(Errc::not_found, "this lease is over");
    return *lasts;
  });
}

Task<Result<LeaseTime>> SimCoordination::time_left(LeaseId lease, TimePoint deadline) {
  return call<LeaseTime>(deadline, [this, lease](KvState& state) -> Result<LeaseTime> {
    const auto left = state.time_left(lease, loop_.clock().now(), host_.grain);
    if (!left) return fail(Errc::not_found, "this lease was ended");
    return *left;
  });
}

Task<Result<>> SimCoordination::revoke(LeaseId lease, TimePoint deadline) {
  return call<void>(deadline, [lease](KvState& state) -> Result<> {
    state.revoke(lease);
    return {};
  });
}

Task<Result<CoordinationView>> SimCoordination::read(std::string prefix, TimePoint deadline) {
  return call<CoordinationView>(deadline, [prefix](KvState& state) -> Result<CoordinationView> {
    return state.read(prefix);
  });
}

Task<Result<Committed>> SimCoordination::commit(CoordinationChange change, TimePoint deadline) {
  ++host_.commits;
  return call<Committed>(deadline, [change](KvState& state) { return state.commit(change); });
}

Task<> SimCoordination::changed(std::string prefix, Revision after, TimePoint deadline) {
  if (stopping_) co_return;
  Task<> waited = waits_.wait(host_.state, std::move(prefix), after, deadline);
  co_await waited;
  const auto latest = static_cast<std::uint64_t>(host_.late_news.count());
  if (latest == 0 || stopping_) co_return;
  ++calls_;
  const TimePoint told = loop_.now() + Duration(host_.random.below(latest + 1));
  co_await loop_.sleep_until(told);
  --calls_;
}

Task<> SimCoordination::stop() {
  stopping_ = true;
  waits_.end();
  while (!waits_.idle() || calls_ > 0) {
    const TimePoint soon = loop_.now() + std::chrono::milliseconds(1);
    co_await loop_.sleep_until(soon);
  }
}

}  // namespace membrain
