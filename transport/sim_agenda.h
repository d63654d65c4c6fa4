// What the simulator draws its luck and its order from.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"

namespace membrain {

/// A generator whose numbers depend on the seed alone (splitmix64).
class SimRandom {
 public:
  explicit SimRandom(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t next() noexcept {
    state_ += 0x9e3779b97f4a7c15u;
    std::uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
  }
  /// True with this probability. Draws nothing for zero.
  bool chance(double probability) noexcept {
    return probability > 0 && static_cast<double>(next() >> 11) * 0x1.0p-53 < probability;
  }
  /// In [0, bound); 0 for a bound of 0.
  std::uint64_t below(std::uint64_t bound) noexcept { return bound == 0 ? 0 : next() % bound; }
  /// In [least, most]; `least` if that is more than `most`.
  Duration between(Duration least, Duration most) noexcept {
    if (most <= least) return least;
    const auto width = static_cast<std::uint64_t>((most - least).count()) + 1;
    return least + Duration(static_cast<Duration::rep>(below(width)));
  }

 private:
  std::uint64_t state_;
};

/// Something that will happen in the simulated network.
struct SimEvent {
  enum class Kind : std::uint8_t {
    message_arrives,
    payload_half_landed,
    payload_landed,
    payload_acknowledged,
    end_gone,
    connect_attempt,
    partition_noticed,
  };
  TimePoint when;
  std::uint64_t order = 0;       ///< equal times happen in the order in which they were added
  std::uint32_t index = 0;       ///< of what it happens to
  std::uint32_t generation = 0;  ///< void when that has been replaced
  Kind kind = Kind::message_arrives;
  std::uint8_t side = 0;  ///< which end of a connection
};

/// Events by time. A heap in one vector: no allocation per event.
class SimAgenda {
 public:
  void add(SimEvent event) {
    event.order = next_order_++;
    events_.push_back(event);
    std::push_heap(events_.begin(), events_.end(), later);
  }
  [[nodiscard]] std::optional<TimePoint> next() const noexcept {
    if (events_.empty()) return std::nullopt;
    return events_.front().when;
  }
  /// The earliest event that is due.
  std::optional<SimEvent> take_due(TimePoint now) {
    if (events_.empty() || events_.front().when > now) return std::nullopt;
    std::pop_heap(events_.begin(), events_.end(), later);
    const SimEvent event = events_.back();
    events_.pop_back();
    return event;
  }
  [[nodiscard]] std::size_t size() const noexcept { return events_.size(); }

 private:
  static bool later(const SimEvent& a, const SimEvent& b) noexcept {
    return a.when != b.when ? a.when > b.when : a.order > b.order;
  }

  std::vector<SimEvent> events_;
  std::uint64_t next_order_ = 0;
};

}  // namespace membrain
