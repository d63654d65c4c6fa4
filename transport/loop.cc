#include "transport/loop.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <thread>

#include "base/check.h"

namespace membrain {

namespace {

/// The epoll tags of what is no watched descriptor; a watch's tag is serial << 32 | fd.
constexpr std::uint64_t kSourceTag = 0;
constexpr std::uint64_t kWakeTag = 1;
/// Under load descriptors are polled in every so many turns only: a poll is a system call.
constexpr std::uint32_t kBusyTurnsPerPoll = 32;
constexpr std::size_t kEventsPerPoll = 64;
/// What sleeping itself adds to a wait: this thread's wake-up, and that of whoever it waits for,
/// who fell asleep meanwhile. Two loops that answer each other would otherwise sleep for ever
/// because they sleep: a round trip of 4 KiB over TCP took 84 us, and takes 22.
constexpr Duration kWakeUps = std::chrono::microseconds(40);

int to_epoll_timeout(Duration longest) noexcept {
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(longest).count());
}

}  // namespace

Timer::Timer(Loop& loop, std::function<void()> fire) : loop_(loop), fire_(std::move(fire)) {}

Timer::~Timer() {
  cancel();
}

void Timer::arm(TimePoint when) {
  loop_.schedule(*this, when);
}

void Timer::cancel() noexcept {
  if (armed()) loop_.forget(*this);
}

void Loop::Sleep::await_suspend(std::coroutine_handle<> waiter) {
  timer_.emplace(loop_, [&ready = loop_.ready(), waiter] { ready.push(waiter); });
  timer_->arm(when_);
}

/// The coroutine that owns a spawned task: it frees itself, and the task with it, when that ends.
struct Loop::Root {
  struct promise_type : PooledFrame {
    Root get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };
};

Loop::Root Loop::own(Loop& loop, Task<> task) {
  ++loop.running_tasks_;
  co_await task;
  --loop.running_tasks_;
}

void Loop::spawn(Task<> task) {
  own(*this, std::move(task));
}

Loop::Loop(const Clock& clock, LoopConfig config)
    : clock_(clock), config_(config), now_(clock.now()) {
  inbox_.set_waker(this);
}

Loop::~Loop() {
  check(running_tasks_ == 0, "a Loop was destroyed under a running task");
  check(timers_.empty(), "a Loop was destroyed under an armed timer");
  if (wake_fd_ >= 0) ::close(wake_fd_);
  if (epoll_fd_ >= 0) ::close(epoll_fd_);
}

// --- Timers: a binary heap in which every timer knows its place. ---

bool Loop::earlier(const Due& a, const Due& b) noexcept {
  return a.when != b.when ? a.when < b.when : a.order < b.order;
}

void Loop::place(std::size_t at, const Due& due) noexcept {
  timers_[at] = due;
  due.timer->place_ = at;
}

void Loop::sift_up(std::size_t at, const Due& due) noexcept {
  while (at > 0) {
    const std::size_t parent = (at - 1) / 2;
    if (!earlier(due, timers_[parent])) break;
    place(at, timers_[parent]);
    at = parent;
  }
  place(at, due);
}

void Loop::sift_down(std::size_t at, const Due& due) noexcept {
  for (;;) {
    std::size_t child = 2 * at + 1;
    if (child >= timers_.size()) break;
    if (child + 1 < timers_.size() && earlier(timers_[child + 1], timers_[child])) ++child;
    if (!earlier(timers_[child], due)) break;
    place(at, timers_[child]);
    at = child;
  }
  place(at, due);
}

void Loop::schedule(Timer& timer, TimePoint when) {
  // What is due already queues behind what has been due for longer: nothing starves.
  const Due due{std::max(when, now_), next_order_++, &timer};
  if (!timer.armed()) {
    timers_.push_back(due);
    sift_up(timers_.size() - 1, due);
  } else if (earlier(due, timers_[timer.place_])) {
    sift_up(timer.place_, due);
  } else {
    sift_down(timer.place_, due);
  }
}

void Loop::forget(Timer& timer) noexcept {
  const std::size_t hole = timer.place_;
  const Due last = timers_.back();
  timers_.pop_back();
  timer.place_ = Timer::kNowhere;
  if (hole == timers_.size()) return;
  if (hole > 0 && earlier(last, timers_[(hole - 1) / 2])) {
    sift_up(hole, last);
  } else {
    sift_down(hole, last);
  }
}

bool Loop::fire_timers() {
  bool fired = false;
  const std::uint64_t armed_in_this_turn = next_order_;
  while (!timers_.empty()) {
    const Due next = timers_.front();
    if (next.when > now_ || next.order >= armed_in_this_turn) break;
    forget(*next.timer);
    next.timer->fire_();
    fired = true;
  }
  return fired;
}

// --- Sources and descriptors. ---

void Loop::add_source(Source& source) {
  sources_.push_back(&source);
  if (epoll_fd_ >= 0 && source.event_fd() >= 0) {
    const Result<> added = add_to_epoll(source.event_fd(), EPOLLIN, kSourceTag, false);
    check(added.has_value(), "a source's descriptor cannot be waited on");
  }
}

void Loop::remove_source(Source& source) {
  std::replace(sources_.begin(), sources_.end(), &source, static_cast<Source*>(nullptr));
  if (epoll_fd_ >= 0 && source.event_fd() >= 0) {
    ::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, source.event_fd(), nullptr);
  }
}

bool Loop::progress_sources() {
  std::erase(sources_, nullptr);
  bool progressed = false;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    if (sources_[i] != nullptr && sources_[i]->progress()) progressed = true;
  }
  return progressed;
}

Result<> Loop::add_to_epoll(int fd, std::uint32_t events, std::uint64_t tag, bool known) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  if (::epoll_ctl(epoll_fd_, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) == 0) return {};
  const int error = errno;
  const bool full = error == ENOMEM || error == ENOSPC;
  return fail(full ? Errc::out_of_capacity : Errc::invalid_argument, "epoll_ctl", error);
}

Result<> Loop::open_descriptors() {
  if (epoll_fd_ >= 0) return {};
  const int epoll_fd = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) return fail(Errc::out_of_capacity, "epoll_create1", errno);
  const int wake_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd < 0) {
    const int error = errno;
    ::close(epoll_fd);
    return fail(Errc::out_of_capacity, "eventfd", error);
  }
  epoll_fd_ = epoll_fd;
  wake_fd_ = wake_fd;
  Result<> outcome = add_to_epoll(wake_fd_, EPOLLIN, kWakeTag, false);
  for (Source* source : sources_) {
    if (!outcome || source == nullptr || source->event_fd() < 0) continue;
    outcome = add_to_epoll(source->event_fd(), EPOLLIN, kSourceTag, false);
  }
  return outcome;
}

Result<> Loop::watch(int fd, std::uint32_t events, FdHandler& handler) {
  if (fd < 0) return fail(Errc::invalid_argument, "watch: no descriptor");
  if (const Result<> opened = open_descriptors(); !opened) return opened;
  const Watch watch{&handler, next_serial_++};
  const std::uint64_t tag = (std::uint64_t{watch.serial} << 32) | static_cast<std::uint32_t>(fd);
  if (const Result<> added = add_to_epoll(fd, events, tag, watches_.contains(fd)); !added) {
    return added;
  }
  watches_.insert_or_assign(fd, watch);
  return {};
}

void Loop::unwatch(int fd) noexcept {
  if (watches_.erase(fd) != 0) ::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
}

void Loop::drain_wakes() noexcept {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(wake_fd_, &count, sizeof count);
}

/// True if a handler was called.
bool Loop::poll_descriptors(int timeout_ms) {
  turns_since_poll_ = 0;
  std::array<epoll_event, kEventsPerPoll> events;
  const int count =
      ::epoll_wait(epoll_fd_, events.data(), static_cast<int>(events.size()), timeout_ms);
  if (timeout_ms != 0) now_ = clock_.now();  // it may have slept
  bool handled = false;
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    const std::uint64_t tag = event.data.u64;
    if (tag == kWakeTag) drain_wakes();
    if (tag == kWakeTag || tag == kSourceTag) continue;
    // A handler may have unwatched this one, and even watched another under its number.
    const auto found = watches_.find(static_cast<int>(tag & 0xffffffffu));
    if (found == watches_.end() || found->second.serial != tag >> 32) continue;
    found->second.handler->on_ready(event.events);
    handled = true;
  }
  return handled;
}

// --- Turning and sleeping. ---

bool Loop::turn() {
  // Whatever was posted or woken for until here is seen by this turn.
  if (wakefulness_.load(std::memory_order_relaxed) == Wakefulness::notified) {
    wakefulness_.exchange(Wakefulness::awake);
  }
  now_ = clock_.now();
  bool worked = inbox_.run();
  worked |= progress_sources();
  if (!watches_.empty() && (!worked || ++turns_since_poll_ >= kBusyTurnsPerPoll)) {
    worked |= poll_descriptors(0);
  }
  worked |= fire_timers();
  worked |= ready_.run();
  return worked;
}

void Loop::wake() noexcept {
  if (wakefulness_.exchange(Wakefulness::notified) != Wakefulness::asleep) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

void Loop::stop() noexcept {
  stop_.store(true);
  wake();
}

void Loop::wait(Duration longest) {
  if (!ready_.empty() || !inbox_.empty()) return;
  Duration rest = std::min(longest, config_.longest_sleep);
  if (!timers_.empty()) rest = std::min(rest, timers_.front().when - clock_.now());
  if (rest <= Duration::zero()) return;
  const Result<> opened = open_descriptors();
  check(opened.has_value(), "a loop cannot sleep without descriptors");
  sleep(rest);
}

void Loop::sleep(Duration longest) {
  // A wake that comes before this exchange makes it fail; one that comes after writes the eventfd.
  Wakefulness expected = Wakefulness::awake;
  if (!wakefulness_.compare_exchange_strong(expected, Wakefulness::asleep)) return;
  bool armed = true;
  for (Source* source : sources_) {
    if (source != nullptr && !source->arm()) armed = false;
  }
  poll_descriptors(armed ? to_epoll_timeout(longest) : 0);
  wakefulness_.exchange(Wakefulness::awake);
}

void Loop::run() {
  Duration spin = config_.spin;  // halved when it was in vain, doubled when it (would have) paid
  const Duration least = config_.spin / 16;
  TimePoint idle_since{};
  bool idle = false;
  while (!stop_.load(std::memory_order_acquire)) {
    if (turn()) {
      if (idle) spin = std::min(config_.spin, spin * 2);
      idle = false;
      continue;
    }
    if (!idle) {
      idle = true;
      idle_since = now_;
    }
    if (now_ - idle_since < spin) {
      std::this_thread::yield();
      continue;
    }
    const TimePoint asleep_since = clock_.now();
    wait(config_.longest_sleep);
    const bool brief = clock_.now() - asleep_since < config_.spin + kWakeUps;
    spin = brief ? std::min(config_.spin, spin * 2) : std::max(least, spin / 2);
    idle = false;
  }
  stop_.store(false);
}

}  // namespace membrain
