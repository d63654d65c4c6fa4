// Membership: that this server lives, as the cluster knows it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "membrain/result.h"
#include "server/cluster/coordination.h"
#include "server/cluster/jitter.h"
#include "server/cluster/names.h"
#include "transport/loop.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

struct MemberConfig {
  std::string cluster = "membrain";
  std::string name;     ///< of this server, unlike all others'; empty: its address
  std::string address;  ///< where clients and nodes reach it; empty: where it listens
  Duration lease = std::chrono::seconds(3);
  std::uint64_t seed = 1;  ///< of jitter
};

/// Told on the loop.
class LeaseListener {
 public:
  /// The lease is another, or none.
  virtual void on_lease() = 0;
  /// It can be trusted for longer.
  virtual void on_renewed() {}

 protected:
  ~LeaseListener() = default;
};

/// Keeps a lease and this server's name under it. A lease that was not renewed in time is given up
/// before anybody else can see it end: `valid_until` counts from the moment at which the last
/// renewal was sent, less a tenth for clocks that run apart.
///
/// Threads  The loop's.
class Membership {
 public:
  Membership(Loop& loop, Coordination& coordination, MemberConfig config);
  ~Membership();
  Membership(const Membership&) = delete;
  Membership& operator=(const Membership&) = delete;

  void add(LeaseListener& listener) { listeners_.push_back(&listener); }
  /// Not from within a call of a listener.
  void remove(LeaseListener& listener) { std::erase(listeners_, &listener); }
  /// Runs until `stop`. The server listens there.
  void start(const std::string& listens);
  /// Revokes the lease, so that others need not wait for its end.
  Task<> stop();

  /// Finds out soon whether the lease still stands.
  void look() noexcept { wake_.raise(); }

  /// None while there is none that can be trusted.
  [[nodiscard]] LeaseId lease() const noexcept { return lease_; }
  [[nodiscard]] bool valid(TimePoint now) const noexcept { return lease_ && now < valid_until_; }
  [[nodiscard]] TimePoint valid_until() const noexcept {
    return lease_ ? valid_until_ : TimePoint::min();
  }
  [[nodiscard]] const MemberConfig& config() const noexcept { return config_; }
  [[nodiscard]] const ClusterNames& names() const noexcept { return names_; }
  [[nodiscard]] Coordination& coordination() const noexcept { return coordination_; }
  [[nodiscard]] Loop& loop() const noexcept { return loop_; }

 private:
  Task<> run();
  Task<Result<>> end_former();
  Task<Result<>> join();
  Task<Result<>> renew();
  void warn_of_namesake(const CoordinationEntry& former) const;
  void give_up(const char* why);
  void trust(TimePoint asked, Duration lasts);
  void tell();
  [[nodiscard]] Duration patience() const noexcept { return config_.lease / 3; }

  Loop& loop_;
  Coordination& coordination_;
  MemberConfig config_;
  const ClusterNames names_;
  std::vector<LeaseListener*> listeners_;
  Jitter jitter_;
  Signal wake_;
  Signal ended_;
  LeaseId lease_;
  LeaseId granted_;  ///< the last one, in use or not
  TimePoint valid_until_;
  bool running_ = false;
  bool stopping_ = false;
};

}  // namespace membrain
