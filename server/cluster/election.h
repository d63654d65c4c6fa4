// Election: who leads a shard.
#pragma once

#include <string>

#include "base/clock.h"
#include "base/ids.h"
#include "membrain/result.h"
#include "server/cluster/coordination.h"
#include "server/cluster/hand_over.h"
#include "server/cluster/jitter.h"
#include "server/cluster/membership.h"
#include "server/term.h"
#include "transport/loop.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

/// Told on the loop, once for each change.
class ElectionListener {
 public:
  /// This server leads, from now until `on_follow`. A later term may follow without one between.
  virtual void on_lead(Term term) = 0;
  /// It does not lead. `leader` is the address of who does, and `lease` theirs; both empty if
  /// nobody does, or that is not known.
  virtual void on_follow(const std::string& leader, LeaseId lease) = 0;
  /// Until when its term stands without further news; the past, while it does not lead.
  virtual void on_hold(TimePoint until) { static_cast<void>(until); }

 protected:
  ~ElectionListener() = default;
};

/// Puts this server's name where the leader's belongs, if that is empty; otherwise waits until it
/// is. Those who have followed a leader that goes hear of it in the same instant: each waits for a
/// few milliseconds of its own and looks again, so that the first campaign is mostly the only one.
/// Every step looks at what is there now, so that a call whose answer was lost does no harm: a
/// name under our own lease is ours.
///
/// A leader that is asked to (`ShardWishes`) makes way for another server once that says that it is
/// ready, or splits its shard in two: it stops serving, then ends its term with one change. What
/// follows is what follows the end of any term: nodes report to the next leader, clients assert
/// their pins, and nobody's bytes have moved.
///
/// Ownership  Borrows the membership, under whose lease it stands, and the listener.
/// Threads    The loop's.
class Election final : private LeaseListener {
 public:
  Election(Membership& membership, ShardId shard, ElectionListener& listener);
  ~Election();
  Election(const Election&) = delete;
  Election& operator=(const Election&) = delete;

  /// Whoever leads the shard here is reached at `address`.
  void start(const std::string& address);
  /// What it still waits for ends with Coordination::stop, before which it must not be destroyed.
  Task<> stop();
  /// Looks again, soon.
  void look() noexcept { wake_.raise(); }

  [[nodiscard]] ShardId shard() const noexcept { return shard_; }
  /// Somebody leads, as far as is known.
  [[nodiscard]] bool settled() const noexcept { return lease_.value != 0; }
  [[nodiscard]] bool holds(TimePoint now) const noexcept {
    return epoch_ && lease_ == membership_.lease() && membership_.valid(now);
  }
  /// As Tenure's.
  Task<Result<>> set_era(Epoch epoch, NamespaceId space, Era era);

 private:
  enum class Place : std::uint8_t { unknown, leads, follows };

  Task<> run();
  Task<Result<Revision>> step();
  Task<Result<>> campaign(bool founded);
  Task<Result<>> hold(CoordinationView view, CoordinationEntry leader);
  Task<Result<>> split(CoordinationView view, Epoch epoch, ShardId fresh);
  Task<Result<>> make(CoordinationChange change);
  Task<Result<>> say_ready(ShardWishes wishes);
  Task<> wait_for_news(Revision after, Duration longest);
  void lead(const CoordinationView& view, const CoordinationEntry& leader, const ShardMap& map);
  void follow(const std::string& leader, LeaseId lease);
  void end_term(Epoch epoch);
  void on_lease() override;
  void on_renewed() override { tell_hold(); }
  void tell_hold();
  [[nodiscard]] bool others_first(const ShardWishes& wishes);
  [[nodiscard]] Duration pause();
  [[nodiscard]] Duration patience() const noexcept;

  Membership& membership_;
  Coordination& coordination_;
  Loop& loop_;
  const ShardId shard_;
  ElectionListener& listener_;
  Jitter jitter_;
  Signal wake_;
  Signal ended_;
  std::string address_;
  Place place_ = Place::unknown;
  Epoch epoch_;              ///< while it leads
  LeaseId lease_;            ///< of the leader that was told last, perhaps ourselves
  Epoch ended_term_;         ///< ours, which we have stopped to serve and are ending
  Revision yielded_to_ = 0;  ///< whose being ready we have made way for
  TimePoint yields_until_;   ///< an empty place is left to who is wanted there; zero: not begun
  TimePoint campaigns_at_;   ///< zero: no leader has gone
  TimePoint said_ready_;
  bool running_ = false;
  bool stopping_ = false;
  bool watching_ = false;
};

}  // namespace membrain
