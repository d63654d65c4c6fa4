#include "tools/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "tools/units.h"

namespace membrain {
namespace {

constexpr std::size_t kBarColumns = 28;

double share_of(const ProgressState& state) {
  if (state.total == 0) return 1;
  return std::min(1.0, static_cast<double>(state.done) / static_cast<double>(state.total));
}

double per_second(const ProgressState& state) {
  const double seconds = std::chrono::duration<double>(state.elapsed).count();
  return seconds > 0 ? static_cast<double>(state.done) / seconds : 0;
}

/// "  600 of 1,200": as wide at the beginning as at the end.
std::string amount(const ProgressState& state) {
  const std::string total = format_count(state.total);
  std::string text = fmt::format("{:>{}} of {}", format_count(state.done), total.size(), total);
  return state.unit == ProgressUnit::seconds ? text + " s" : text;
}

std::string rate(const ProgressState& state) {
  if (state.unit == ProgressUnit::seconds) return {};
  const double each_second = per_second(state);
  if (each_second < 10) return fmt::format("{:.1f}/s", each_second);
  return format_count(static_cast<std::uint64_t>(each_second)) + "/s";
}

std::string left(const ProgressState& state) {
  const double each_second = per_second(state);
  if (each_second <= 0 || state.done >= state.total) return {};
  const double seconds = static_cast<double>(state.total - state.done) / each_second;
  const std::int64_t whole = std::llround(std::ceil(seconds));
  if (whole < 60) return fmt::format("{} s left", whole);
  return format_duration(std::chrono::seconds(whole)) + " left";
}

std::size_t terminal_columns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

std::string progress_bar(const ProgressState& state, std::size_t columns) {
  const double share = share_of(state);
  const auto filled = static_cast<std::size_t>(share * static_cast<double>(kBarColumns));
  std::string line = fmt::format("{:>3.0f} % |{}{}|", std::floor(share * 100),
                                 std::string(filled, '#'), std::string(kBarColumns - filled, '.'));
  const std::string parts[] = {amount(state), rate(state), left(state), state.note};
  for (const std::string& part : parts) {
    if (!part.empty() && line.size() + 2 + part.size() <= columns) line += "  " + part;
  }
  return line.substr(0, columns);
}

std::string progress_text(const ProgressState& state) {
  const bool timed = state.unit == ProgressUnit::seconds;
  std::string line = fmt::format("{} of {} {}", format_count(state.done), format_count(state.total),
                                 timed ? "s" : "requests");
  for (const std::string& part : {rate(state), left(state), state.note}) {
    if (!part.empty()) line += ", " + part;
  }
  return line;
}

Progress::Progress(std::uint64_t total, ProgressUnit unit)
    : terminal_(isatty(STDERR_FILENO) != 0),
      total_(total),
      unit_(unit),
      began_(SteadyClock().now()),
      next_(began_ + (terminal_ ? std::chrono::milliseconds(100) : std::chrono::seconds(5))) {}

Progress::~Progress() {
  clear();
}

void Progress::show(TimePoint now, std::uint64_t done, std::string note) {
  const ProgressState state{done, total_, now - began_, std::move(note), unit_};
  if (terminal_) {
    const std::string line = progress_bar(state, terminal_columns() - 1);
    std::fputs(fmt::format("\r\x1b[K{}", line).c_str(), stderr);
    drawn_ = true;
  } else {
    std::fputs(fmt::format("{}\n", progress_text(state)).c_str(), stderr);
  }
  std::fflush(stderr);
  next_ = now + (terminal_ ? std::chrono::milliseconds(100) : std::chrono::seconds(5));
}

void Progress::clear() {
  if (!std::exchange(drawn_, false)) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
}

}  // namespace membrain
