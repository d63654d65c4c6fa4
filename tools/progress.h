// How far a long command has come: a bar on a terminal, a line now and then elsewhere.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/clock.h"

namespace membrain {

/// What is counted: things, at a rate, or the seconds of a run of a given length.
enum class ProgressUnit : std::uint8_t { requests, seconds };

struct ProgressState {
  std::uint64_t done = 0;
  std::uint64_t total = 0;
  std::chrono::nanoseconds elapsed{};
  std::string note;  ///< what else is worth a glance, e.g. "36 % hit"
  ProgressUnit unit = ProgressUnit::requests;
};

/// "  42 % |########............|  5,052 of 12,031  1,210/s  6 s left  36 % hit", at most `columns`
/// wide. Pure.
[[nodiscard]] std::string progress_bar(const ProgressState& state, std::size_t columns);

/// "5,052 of 12,031 requests, 1,210/s, 6 s left, 36 % hit". Pure.
[[nodiscard]] std::string progress_text(const ProgressState& state);

/// Shows progress on stderr: ten times a second on a terminal, else a line every five seconds.
///
/// Threads  One. Cost: nothing between two showings.
class Progress {
 public:
  explicit Progress(std::uint64_t total, ProgressUnit unit = ProgressUnit::requests);
  /// Clears the bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// True if it is time to show; then `show` is worth its cost.
  [[nodiscard]] bool due(TimePoint now) const noexcept { return now >= next_; }
  void show(TimePoint now, std::uint64_t done, std::string note);
  /// Makes room for a line of somebody else.
  void clear();

 private:
  bool terminal_ = false;
  bool drawn_ = false;
  std::uint64_t total_ = 0;
  ProgressUnit unit_;
  TimePoint began_;
  TimePoint next_;
};

}  // namespace membrain
