#include "tools/bench_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace membrain {

using std::chrono::seconds;

namespace {

/// "12 s", "1 min 40 s".
std::string in_seconds(seconds time) {
  if (time < std::chrono::minutes(1)) return fmt::format("{} s", time.count());
  return fmt::format("{} min {} s", time.count() / 60, time.count() % 60);
}

}  // namespace

std::string bench_progress_text(const std::vector<BenchStep>& steps, std::size_t now, seconds taken,
                                seconds elapsed) {
  seconds left = std::max(steps[now].expected - taken, seconds(0));
  for (std::size_t later = now + 1; later < steps.size(); ++later) left += steps[later].expected;
  std::string text = fmt::format("[{}/{}] {}, {} so far", now + 1, steps.size(), steps[now].about,
                                 in_seconds(elapsed));
  if (left > seconds(0)) text += fmt::format(", about {} left", in_seconds(left));
  return text;
}

BenchProgress::BenchProgress() : terminal_(::isatty(STDERR_FILENO) != 0) {}

BenchProgress::~BenchProgress() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
}

void BenchProgress::expect(std::string about, seconds time) {
  steps_.push_back({std::move(about), time});
}

void BenchProgress::begin() {
  began_ = SteadyClock().now();
  if (now_ == 0) first_began_ = began_;
  show();
  if (!terminal_) {
    const auto elapsed = std::chrono::duration_cast<seconds>(began_ - first_began_);
    write(bench_progress_text(steps_, now_, seconds(0), elapsed) + "\n");
  }
}

void BenchProgress::show() {
  if (!terminal_) return;
  const TimePoint now = SteadyClock().now();
  write("\r\x1b[K" + bench_progress_text(steps_, now_,
                                         std::chrono::duration_cast<seconds>(now - began_),
                                         std::chrono::duration_cast<seconds>(now - first_began_)));
  drawn_ = true;
}

void BenchProgress::end() {
  if (std::exchange(drawn_, false)) write("\r\x1b[K");
  ++now_;
}

void BenchProgress::write(const std::string& line) {
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace membrain
