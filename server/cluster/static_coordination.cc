#include "server/cluster/static_coordination.h"

#include <chrono>
#include <utility>

namespace membrain {

namespace {
constexpr Duration kForever = std::chrono::years(10);
}  // namespace

StaticCoordination::StaticCoordination(Loop& loop, std::unique_ptr<StateFile> file)
    : StaticCoordination(loop) {
  file_ = std::move(file);
  state_.restore(file_->take_loaded());
}

Task<Result<Lease>> StaticCoordination::grant(Duration, TimePoint) {
  co_return Lease{state_.grant(kForever, loop_.now()), kForever};
}

Task<Result<Duration>> StaticCoordination::keep_alive(LeaseId lease, TimePoint) {
  const std::optional<Duration> left = state_.renew(lease);
  if (!left) co_return fail(Errc::not_found, "this lease is over");
  co_return *left;
}

Task<Result<LeaseTime>> StaticCoordination::time_left(LeaseId lease, TimePoint) {
  const std::optional<Duration> left = state_.renew(lease);
  if (!left) co_return fail(Errc::not_found, "this lease is over");
  co_return LeaseTime{*left, *left};
}

Task<Result<>> StaticCoordination::revoke(LeaseId lease, TimePoint) {
  state_.revoke(lease);
  co_return Result<>{};
}

Task<Result<CoordinationView>> StaticCoordination::read(std::string prefix, TimePoint) {
  co_return state_.read(prefix);
}

Task<Result<Committed>> StaticCoordination::commit(CoordinationChange change, TimePoint) {
  if (!file_) co_return state_.commit(change);
  co_return state_.commit(change,
                          [this](const CoordinationView& view) { return file_->save(view); });
}

Task<> StaticCoordination::changed(std::string prefix, Revision after, TimePoint deadline) {
  if (stopping_) co_return;
  Task<> waited = waits_.wait(state_, std::move(prefix), after, deadline);
  co_await waited;
}

Task<> StaticCoordination::stop() {
  stopping_ = true;
  waits_.end();
  while (!waits_.idle()) {
    const TimePoint soon = loop_.now() + std::chrono::milliseconds(1);
    co_await loop_.sleep_until(soon);
  }
}

}  // namespace membrain
