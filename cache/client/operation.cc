#include "cache/client/operation.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <type_traits>
#include <utility>

namespace membrain {

namespace detail {

namespace {

/// How long a caller's loop polls before it sleeps: a sleep and a wake-up cost more than a message.
const Duration kSpin = LoopConfig().spin;
constexpr Duration kLongestSleep = std::chrono::milliseconds(50);

}  // namespace

bool OperationState::is_done() {
  const std::lock_guard lock(mutex);
  return done;
}

void OperationState::tell(std::function<void()> whom) {
  {
    const std::lock_guard lock(mutex);
    if (!done) {
      told = std::move(whom);
      return;
    }
  }
  whom();
}

void OperationState::announce() {
  ended.notify_all();
  std::function<void()> whom;
  {
    const std::lock_guard lock(mutex);
    whom = std::exchange(told, nullptr);
  }
  if (whom) whom();
}

void OperationState::await() {
  if (is_done()) return;  // the client, and with it the loop, may be gone
  if (driven == nullptr) {
    std::unique_lock lock(mutex);
    ended.wait(lock, [this] { return done; });
    return;
  }
  TimePoint busy = driven->clock().now();
  while (!is_done()) {
    if (driven->turn()) {
      busy = driven->now();
    } else if (driven->now() - busy >= kSpin) {
      driven->wait(kLongestSleep);
      busy = driven->clock().now();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace detail

template <class T>
bool Operation<T>::done() const noexcept {
  return !state_ || state_->is_done();
}

template <class T>
Result<T> Operation<T>::wait() {
  if (!state_) return fail(Errc::invalid_argument, "there is no operation to wait for");
  state_->await();
  return static_cast<detail::Outcome<T>&>(*state_).take();
}

template <class T>
void Operation<T>::cancel() noexcept {
  if (!state_) return;
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->done) return;
    if constexpr (std::is_same_v<T, Match>) {
      // Nothing of it touches the caller's memory: it is over at once. What the lookup still pins
      // is given back when its answer comes.
      static_cast<detail::Outcome<T>&>(*state_).settle(
          fail(Errc::cancelled, "the lookup was taken back"));
    } else {
      if (state_->take_back) state_->take_back();
      return;
    }
  }
  state_->announce();
}

template <class T>
void Operation<T>::on_done(std::function<void()> told) {
  if (state_) {
    state_->tell(std::move(told));
  } else {
    told();
  }
}

template class Operation<Match>;
template class Operation<OpenedNamespace>;
template class Operation<std::vector<std::byte>>;
template class Operation<TransferReport>;

std::size_t TransferReport::ok_count() const noexcept {
  return static_cast<std::size_t>(std::count_if(
      items.begin(), items.end(), [](const ItemOutcome& outcome) { return outcome.ok; }));
}

}  // namespace membrain
