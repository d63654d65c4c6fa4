#include "cache/client/quantile.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace membrain {

P2Quantile::P2Quantile(double quantile) noexcept
    : quantile_(quantile),
      wanted_{1, 1 + 2 * quantile, 1 + 4 * quantile, 3 + 2 * quantile, 5},
      steps_{0, quantile / 2, quantile, (1 + quantile) / 2, 1} {}

void P2Quantile::add(double number) noexcept {
  if (count_ < kMarkers) {
    heights_[count_++] = number;
    std::sort(heights_.begin(), heights_.begin() + static_cast<std::ptrdiff_t>(count_));
    return;
  }
  ++count_;
  heights_.front() = std::min(heights_.front(), number);
  heights_.back() = std::max(heights_.back(), number);
  for (std::size_t i = 1; i < kMarkers; ++i) {
    if (i + 1 == kMarkers || number < heights_[i]) places_[i] += 1;
    wanted_[i] += steps_[i];
  }
  for (std::size_t i = 1; i + 1 < kMarkers; ++i) {
    const double off = wanted_[i] - places_[i];
    const bool up = off >= 1 && places_[i + 1] - places_[i] > 1;
    const bool down = off <= -1 && places_[i - 1] - places_[i] < -1;
    if (!up && !down) continue;
    const double step = up ? 1 : -1;
    const double height = parabola(i, step);
    const bool between = heights_[i - 1] < height && height < heights_[i + 1];
    heights_[i] = between ? height : line(i, step);
    places_[i] += step;
  }
}

double P2Quantile::parabola(std::size_t i, double step) const noexcept {
  const double above = places_[i + 1] - places_[i];
  const double below = places_[i] - places_[i - 1];
  const double rise = (below + step) * (heights_[i + 1] - heights_[i]) / above +
                      (above - step) * (heights_[i] - heights_[i - 1]) / below;
  return heights_[i] + step / (above + below) * rise;
}

double P2Quantile::line(std::size_t i, double step) const noexcept {
  const std::size_t to = step > 0 ? i + 1 : i - 1;
  return heights_[i] + step * (heights_[to] - heights_[i]) / (places_[to] - places_[i]);
}

double P2Quantile::value() const noexcept {
  if (count_ == 0) return 0;
  if (count_ > kMarkers) return heights_[kMarkers / 2];
  const double last = static_cast<double>(count_ - 1);
  return heights_[static_cast<std::size_t>(std::lround(quantile_ * last))];
}

void RecentQuantile::add(double number) noexcept {
  if (now_.count() == kEpoch) {
    before_ = now_.value();
    now_ = fresh_;
  }
  now_.add(number);
}

std::optional<double> RecentQuantile::value() const noexcept {
  const bool knows = now_.count() >= (before_ ? kEpoch / 2 : kEnough);
  return knows ? std::optional(now_.value()) : before_;
}

}  // namespace membrain
