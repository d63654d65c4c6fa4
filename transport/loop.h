// Loop: the one thread on which everything of a component happens.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "transport/completion.h"
#include "transport/inbox.h"
#include "transport/task.h"

namespace membrain {

class Loop;

/// Something that a loop drives by polling: a UCX worker.
class Source {
 public:
  virtual ~Source() = default;
  /// Does what can be done now. True if anything happened. Never blocks.
  virtual bool progress() = 0;
  /// A descriptor that becomes readable when there is work again; -1 if there is none to wait on.
  [[nodiscard]] virtual int event_fd() const noexcept = 0;
  /// Prepares for sleep: false if work has come in meanwhile, so that the loop must not sleep.
  [[nodiscard]] virtual bool arm() noexcept = 0;
};

/// Told when a watched descriptor is ready. Loop thread.
class FdHandler {
 public:
  virtual void on_ready(std::uint32_t epoll_events) = 0;

 protected:
  ~FdHandler() = default;
};

/// Calls `fire` once when its time has come. Owned by whoever armed it; destroying it cancels (its
/// own callback must not destroy it). Loop thread only.
///
/// Cost  An armed timer is one entry of the loop's heap, moved when it is armed again and taken out
///       when it is cancelled: memory is bounded by the number of armed timers.
class Timer {
 public:
  Timer(Loop& loop, std::function<void()> fire);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  /// Fires at `when` (if that has passed: in the next turn), in place of any earlier arming.
  void arm(TimePoint when);
  void cancel() noexcept;
  /// Replaces what is called; for callbacks that re-arm their own timer. Not while armed.
  void set_fire(std::function<void()> fire) { fire_ = std::move(fire); }
  [[nodiscard]] bool armed() const noexcept { return place_ != kNowhere; }

 private:
  friend class Loop;
  static constexpr std::size_t kNowhere = static_cast<std::size_t>(-1);
  Loop& loop_;
  std::function<void()> fire_;
  std::size_t place_ = kNowhere;  ///< where in the loop's heap
};

struct LoopConfig {
  /// How long an idle loop polls before it sleeps. Longer than it takes to wake the other end of a
  /// connection and to hear from it (some 40 us): with less, two ends that wait for each other stay
  /// asleep between all of their messages (docs/adr/0012). While it polls it yields its core to
  /// whoever wants it (docs/adr/0019).
  Duration spin = std::chrono::microseconds(150);
  /// UCX wake-ups can be missed: never sleep longer
  Duration longest_sleep = std::chrono::milliseconds(50);
};

/// Runs jobs from its inbox, progresses its sources, fires timers and resumes coroutines: turn by
/// turn, on one thread.
///
/// Threads  `inbox().post`, `stop` and `wake` from any thread; everything else on the loop's own
///          thread (or before it runs, or after it stopped). In tests and the simulator one thread
///          drives many loops by `turn()`.
/// Cost     A turn without work costs one progress call per source, and one system call if
///          descriptors are watched. An idle loop spins for at most `spin` (less when spinning has
///          not paid of late), then sleeps in epoll until a source, a descriptor, a timer or the
///          inbox wakes it. Construction opens no descriptor: that waits for `watch` or `wait`.
class Loop final : public Inbox::Waker {
 public:
  explicit Loop(const Clock& clock, LoopConfig config = {});
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  [[nodiscard]] Inbox& inbox() noexcept { return inbox_; }
  [[nodiscard]] ReadyQueue& ready() noexcept { return ready_; }
  [[nodiscard]] const Clock& clock() const noexcept { return clock_; }
  /// The time, read at the start of this turn.
  [[nodiscard]] TimePoint now() const noexcept { return now_; }

  /// Starts `task` now and owns it until it has ended. (Task<> only: results travel through what it
  /// captured.) Destroying the loop under a running task ends the process.
  void spawn(Task<> task);
  [[nodiscard]] std::size_t running_tasks() const noexcept { return running_tasks_; }

  /// The source is progressed in every turn until it is removed; it must outlive that. Both are
  /// allowed inside `progress`.
  void add_source(Source& source);
  void remove_source(Source& source);

  /// Calls `handler` when `fd` has one of `events` (EPOLLIN, EPOLLOUT; level-triggered). Watching
  /// a watched `fd` replaces its events and handler. `unwatch` before closing it.
  Result<> watch(int fd, std::uint32_t events, FdHandler& handler);
  void unwatch(int fd) noexcept;

  /// `co_await loop.sleep_until(t)`.
  class Sleep {
   public:
    Sleep(Loop& loop, TimePoint when) : loop_(loop), when_(when) {}
    [[nodiscard]] bool await_ready() const noexcept { return when_ <= loop_.now(); }
    void await_suspend(std::coroutine_handle<> waiter);
    void await_resume() const noexcept {}

   private:
    Loop& loop_;
    TimePoint when_;
    std::optional<Timer> timer_;
  };
  [[nodiscard]] Sleep sleep_until(TimePoint when) { return {*this, when}; }

  /// One pass: inbox, sources, descriptors, timers, ready coroutines. True if anything was done.
  /// Never sleeps.
  bool turn();
  /// For whoever drives many loops: a turn would do nothing, its sources aside. If so, the loop's
  /// time is what it would be after that turn. `now` is what its clock says.
  [[nodiscard]] bool rests(TimePoint now) noexcept {
    if (!inbox_.empty() || !ready_.empty() || !watches_.empty()) return false;
    if (!timers_.empty() && timers_.front().when <= now) return false;
    now_ = now;
    return true;
  }
  /// Sleeps until there may be work, at most `longest`; returns at once if there is work already.
  void wait(Duration longest);
  /// Turns, spins and sleeps until `stop`.
  void run();
  /// Makes `run` return after its current turn. Any thread.
  void stop() noexcept;
  /// Ends a sleep. Any thread; async-signal-safe.
  void wake() noexcept override;

  /// When the next timer is due.
  [[nodiscard]] std::optional<TimePoint> next_timer() const noexcept {
    if (timers_.empty()) return std::nullopt;
    return timers_.front().when;
  }

 private:
  friend class Timer;
  struct Due {
    TimePoint when;
    std::uint64_t order;  ///< equal times fire in the order in which they were armed
    Timer* timer;
  };
  struct Watch {
    FdHandler* handler;
    std::uint32_t serial;  ///< tells a descriptor from a closed one that had its number
  };
  /// Whoever wakes the loop sets `notified`; it writes the eventfd only if the loop was asleep.
  enum class Wakefulness : std::uint8_t { awake, asleep, notified };
  struct Root;

  static Root own(Loop& loop, Task<> task);
  [[nodiscard]] static bool earlier(const Due& a, const Due& b) noexcept;
  void place(std::size_t at, const Due& due) noexcept;
  void sift_up(std::size_t at, const Due& due) noexcept;
  void sift_down(std::size_t at, const Due& due) noexcept;
  void schedule(Timer& timer, TimePoint when);
  void forget(Timer& timer) noexcept;
  bool fire_timers();
  bool progress_sources();
  bool poll_descriptors(int timeout_ms);
  Result<> open_descriptors();
  [[nodiscard]] Result<> add_to_epoll(int fd, std::uint32_t events, std::uint64_t tag, bool known);
  void drain_wakes() noexcept;
  void sleep(Duration longest);

  const Clock& clock_;
  LoopConfig config_;
  TimePoint now_;
  Inbox inbox_;
  ReadyQueue ready_;
  std::vector<Due> timers_;  ///< a heap, earliest first; each Timer knows its place
  std::uint64_t next_order_ = 1;
  std::size_t running_tasks_ = 0;
  std::vector<Source*> sources_;  ///< removed ones are null until the next turn
  std::unordered_map<int, Watch> watches_;
  std::uint32_t next_serial_ = 1;
  std::uint32_t turns_since_poll_ = 0;
  int epoll_fd_ = -1;
  int wake_fd_ = -1;  ///< set before the loop can sleep, so before anybody may write it
  std::atomic<bool> stop_ = false;
  std::atomic<Wakefulness> wakefulness_ = Wakefulness::awake;
};

}  // namespace membrain
