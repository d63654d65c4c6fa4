// How far `membrain bench` has come: what runs, for how long, how much longer.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "base/clock.h"

namespace membrain {

struct BenchStep {
  std::string about;
  std::chrono::seconds expected;
};

/// "[3/9] 64 KiB over tcp, 12 s, about 1 min 40 s left": step `now` of `steps`, which has taken
/// `taken` so far, `elapsed` after the first began. Pure.
[[nodiscard]] std::string bench_progress_text(const std::vector<BenchStep>& steps, std::size_t now,
                                              std::chrono::seconds taken,
                                              std::chrono::seconds elapsed);

/// One line on stderr that is written over on a terminal; elsewhere a line when a step begins.
///
/// Threads  One.
class BenchProgress {
 public:
  BenchProgress();
  ~BenchProgress();
  BenchProgress(const BenchProgress&) = delete;
  BenchProgress& operator=(const BenchProgress&) = delete;

  /// One more step, before the first begins.
  void expect(std::string about, std::chrono::seconds time);
  void begin();
  void show();
  /// Of the step; makes room for lines of somebody else.
  void end();

 private:
  void write(const std::string& line);

  bool terminal_;
  bool drawn_ = false;
  std::vector<BenchStep> steps_;
  std::size_t now_ = 0;
  TimePoint first_began_;
  TimePoint began_;
};

}  // namespace membrain
