#include "server/cluster/membership.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace membrain {

namespace {
constexpr Duration kRetry = std::chrono::milliseconds(300);
}  // namespace

Membership::Membership(Loop& loop, Coordination& coordination, MemberConfig config)
    : loop_(loop),
      coordination_(coordination),
      config_(std::move(config)),
      names_(config_.cluster),
      jitter_(config_.seed),
      wake_(loop.ready()),
      ended_(loop.ready()) {}

Membership::~Membership() {
  check(!running_, "a Membership was destroyed while it ran");
}

void Membership::start(const std::string& listens) {
  if (config_.address.empty()) config_.address = listens;
  if (config_.name.empty()) config_.name = config_.address;
  running_ = true;
  loop_.spawn(run());
}

Task<> Membership::stop() {
  stopping_ = true;
  wake_.raise();
  while (running_) co_await ended_;
  const LeaseId lease = std::exchange(lease_, LeaseId{});
  tell();
  if (!lease) co_return;
  Task<Result<>> revoking = coordination_.revoke(lease, loop_.now() + patience());
  static_cast<void>(co_await revoking);
}

Task<> Membership::run() {
  Timer timer(loop_, [this] { wake_.raise(); });
  bool complained = false;
  while (!stopping_) {
    Task<Result<>> work = lease_ ? renew() : join();
    const Result<> done = co_await work;
    if (lease_ && loop_.clock().now() >= valid_until_) give_up("it was not renewed in time");
    if (!done && !std::exchange(complained, true)) {
      log(LogLevel::warn, "server {}: coordination fails: {} ({}); trying on", config_.name,
          to_string(done.error().code), done.error().context);
    }
    if (done) complained = false;
    const Duration pause = done ? patience() : std::min(jitter_.draw(kRetry), patience() / 2);
    TimePoint next = loop_.now() + pause;
    if (lease_) next = std::min(next, valid_until_);
    timer.arm(next);
    if (!stopping_) co_await wake_;
  }
  running_ = false;
  ended_.raise();
}

/// A lease of this server's that still stands, given up or of its process before: nobody stands
/// behind it any more, and its end makes way for others and for this one.
Task<Result<>> Membership::end_former() {
  const std::string name = names_.server(config_.name);
  Task<Result<CoordinationView>> reading = coordination_.read(name, loop_.now() + patience());
  const Result<CoordinationView> view = co_await reading;
  if (!view) co_return fail(view.error());
  const CoordinationEntry* const former = view->find(name);
  if (former == nullptr || !former->lease) co_return Result<>{};
  warn_of_namesake(*former);
  Task<Result<>> revoking = coordination_.revoke(former->lease, loop_.now() + patience());
  co_return co_await revoking;
}

/// Two servers of one name end each other's leases for ever. What a server's former life has left
/// has its address, and is there only when it joins for the first time.
void Membership::warn_of_namesake(const CoordinationEntry& former) const {
  const bool ours = former.lease == granted_;
  const bool restarted = !granted_ && former.value == config_.address;
  if (ours || restarted) return;
  log(LogLevel::warn,
      "server {} at {}: there is a server of the same name at {}, whose lease is ended now. If it"
      " still runs, the two end each other's again and again: give every server a --name of its"
      " own, and an --advertise where others reach it",
      config_.name, config_.address, former.value);
}

/// The name is put only where there is none: a call that arrives late, under a lease that nobody
/// renews, must not take the place of the one that was sent after it.
Task<Result<>> Membership::join() {
  Task<Result<>> ending = end_former();
  if (const Result<> ended = co_await ending; !ended) co_return ended;
  const TimePoint asked = loop_.now();
  Task<Result<Lease>> granting = coordination_.grant(config_.lease, asked + patience());
  const Result<Lease> lease = co_await granting;
  if (!lease) co_return fail(lease.error());
  granted_ = lease->id;
  const std::string name = names_.server(config_.name);
  CoordinationChange change;
  change.if_created.push_back({name, 0});
  change.puts.push_back({name, config_.address, lease->id});
  const TimePoint deadline = loop_.now() + patience();
  Task<Result<Committed>> committing = coordination_.commit(std::move(change), deadline);
  const Result<Committed> known = co_await committing;
  if (!known) co_return fail(known.error());
  if (!known->done) co_return fail(Errc::unavailable, "the name was put there meanwhile");
  lease_ = lease->id;
  trust(asked, lease->lasts);
  tell();
  co_return Result<>{};
}

Task<Result<>> Membership::renew() {
  const TimePoint asked = loop_.now();
  const LeaseId lease = lease_;
  const TimePoint deadline = std::min(asked + patience(), valid_until_);
  Task<Result<Duration>> renewing = coordination_.keep_alive(lease, deadline);
  const Result<Duration> lasts = co_await renewing;
  if (!lasts && lasts.error().code == Errc::not_found) {
    give_up("it was ended");
    co_return Result<>{};
  }
  if (!lasts) co_return fail(lasts.error());
  trust(asked, *lasts);
  co_return Result<>{};
}

void Membership::trust(TimePoint asked, Duration lasts) {
  valid_until_ = asked + lasts - lasts / 10;
  for (LeaseListener* const listener : listeners_) listener->on_renewed();
}

void Membership::give_up(const char* why) {
  log(LogLevel::warn, "server {}: its lease is given up: {}", config_.name, why);
  lease_ = {};
  tell();
}

void Membership::tell() {
  for (LeaseListener* const listener : listeners_) listener->on_lease();
}

}  // namespace membrain
