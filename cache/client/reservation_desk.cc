#include "cache/client/reservation_desk.h"

namespace membrain {

void ReservationDesk::give_back(HeldSlot slot) {
  slot.arena->end({&slot.at, 1});
  const std::lock_guard lock(mutex_);
  if (!bell_) return;
  back_.push_back(std::move(slot));
  if (!rung_) rung_ = bell_();
}

std::vector<HeldSlot> ReservationDesk::take() {
  const std::lock_guard lock(mutex_);
  rung_ = false;
  return std::exchange(back_, {});
}

void ReservationDesk::close() {
  std::vector<HeldSlot> dropped;  // unmapped without the lock
  const std::lock_guard lock(mutex_);
  bell_ = nullptr;
  dropped.swap(back_);
}

Reservation::Reservation() noexcept = default;

Reservation::Reservation(std::unique_ptr<State> state) noexcept
    : state_(std::move(state)), bytes_(state_->held.arena->bytes(state_->held.at, state_->size)) {}

Reservation::Reservation(Reservation&& other) noexcept
    : state_(std::move(other.state_)),
      bytes_(std::exchange(other.bytes_, {})),
      duplicate_(other.duplicate_),
      why_(other.why_) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  state_ = std::move(other.state_);
  bytes_ = std::exchange(other.bytes_, {});
  duplicate_ = other.duplicate_;
  why_ = other.why_;
  return *this;
}

Reservation::~Reservation() = default;

Reservation Reservation::refused(bool duplicate, Errc why) noexcept {
  Reservation none;
  none.duplicate_ = duplicate;
  none.why_ = why;
  return none;
}

std::unique_ptr<Reservation::State> Reservation::take() noexcept {
  bytes_ = {};
  return std::move(state_);
}

}  // namespace membrain
