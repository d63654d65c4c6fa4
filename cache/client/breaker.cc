#include "cache/client/breaker.h"

namespace membrain {

Breaker::State Breaker::state(TimePoint now) const noexcept {
  if (!open_) return State::closed;
  return now < retry_at_ ? State::open : State::half_open;
}

bool Breaker::admits(TimePoint now) const noexcept {
  switch (state(now)) {
    case State::closed:
      return true;
    case State::half_open:
      return probes_ < kProbes;
    case State::open:
      break;
  }
  return false;
}

Breaker::Pass Breaker::enter(TimePoint now) noexcept {
  if (state(now) == State::closed) return {};
  ++probes_;
  return {opened_};
}

void Breaker::give_back(Pass pass) noexcept {
  if (open_ && pass.probe == opened_ && probes_ != 0) --probes_;
}

void Breaker::succeeded() noexcept {
  open_ = false;
  failures_ = 0;
  probes_ = 0;
  retry_at_ = {};
  delays_.reset();
}

void Breaker::failed(TimePoint now, std::uint64_t luck, Pass pass) noexcept {
  if (open_ && (now < retry_at_ || pass.probe != opened_)) return;
  ++failures_;
  retry_at_ = now + delays_.next(luck);
  if (failures_ < kFailuresToOpen) return;
  open_ = true;
  ++opened_;
  probes_ = 0;
}

}  // namespace membrain
