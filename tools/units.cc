#include "tools/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <system_error>
#include <utility>

namespace membrain {
namespace {

constexpr double kLimit = 18446744073709551616.0;  // 2^64

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(), [](unsigned char letter) {
    return static_cast<char>(std::tolower(letter));
  });
  return result;
}

/// "1.5 MiB" -> 1.5 and "mib". A negative or absent number is not one.
struct Measure {
  double number = 0;
  std::string unit;
};
Outcome<Measure> split_measure(std::string_view text) {
  const bool digit_first =
      !text.empty() && std::isdigit(static_cast<unsigned char>(text.front())) != 0;
  Measure measure;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), measure.number,
                                      std::chars_format::fixed);
  if (!digit_first || parsed.ec != std::errc{}) return complain("\"{}\" is not a number", text);
  std::string_view unit = text.substr(static_cast<std::size_t>(parsed.ptr - text.data()));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  measure.unit = lower(unit);
  return measure;
}

}  // namespace

Outcome<std::uint64_t> parse_whole(std::string_view text) {
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) {
    return complain("\"{}\" is not a whole number", text);
  }
  return value;
}

Outcome<std::uint64_t> parse_size(std::string_view text) {
  if (const Outcome<std::uint64_t> bytes = parse_whole(text)) return bytes;
  static constexpr std::array<std::pair<std::string_view, double>, 14> kUnits{{
      {"", 1},
      {"b", 1},
      {"k", 1024.0},
      {"kib", 1024.0},
      {"m", 1048576.0},
      {"mib", 1048576.0},
      {"g", 1073741824.0},
      {"gib", 1073741824.0},
      {"t", 1099511627776.0},
      {"tib", 1099511627776.0},
      {"kb", 1e3},
      {"mb", 1e6},
      {"gb", 1e9},
      {"tb", 1e12},
  }};
  const Outcome<Measure> measure = split_measure(text);
  const auto* const unit = measure ? std::ranges::find(kUnits, std::string_view(measure->unit),
                                                       &std::pair<std::string_view, double>::first)
                                   : kUnits.end();
  if (unit == kUnits.end()) {
    return complain("\"{}\" is not a size: write 4GiB, 512MiB, 64KiB or a number of bytes", text);
  }
  const double bytes = std::floor(measure->number * unit->second);
  if (bytes >= kLimit) return complain("\"{}\" is more than 2^64 bytes", text);
  return static_cast<std::uint64_t>(bytes);
}

Outcome<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, double>, 7> kUnits{{
      {"ns", 1},
      {"us", 1e3},
      {"ms", 1e6},
      {"s", 1e9},
      {"m", 60e9},
      {"min", 60e9},
      {"h", 3600e9},
  }};
  const Outcome<Measure> measure = split_measure(text);
  const auto* const unit = measure ? std::ranges::find(kUnits, std::string_view(measure->unit),
                                                       &std::pair<std::string_view, double>::first)
                                   : kUnits.end();
  if (unit == kUnits.end()) {
    return complain("\"{}\" is not a duration: write 250ms, 10s, 2m or 1h", text);
  }
  const double ns = std::round(measure->number * unit->second);
  if (ns >= kLimit / 4) return complain("\"{}\" is more than a century", text);
  return std::chrono::nanoseconds(static_cast<std::int64_t>(ns));
}

Outcome<std::string> parse_address(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  const std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  const bool plain = !host.empty() && host.find_first_of(":[] \t") == std::string_view::npos;
  const bool one = text.find(',') == std::string_view::npos;
  if (colon == std::string_view::npos || !one || !(bracketed || plain)) {
    return complain("\"{}\" is not an address: write host:port, for example 127.0.0.1:9201", text);
  }
  const Outcome<std::uint64_t> port = parse_whole(text.substr(colon + 1));
  if (!port || *port > 65535) {
    return complain("\"{}\": the port must be a number from 0 to 65535", text);
  }
  return std::string(text);
}

Outcome<std::string> parse_addresses(std::string_view text) {
  for (std::string_view rest = text; true;) {
    const std::size_t comma = rest.find(',');
    const Outcome<std::string> one = parse_address(rest.substr(0, comma));
    if (!one) return one;
    if (comma == std::string_view::npos) return std::string(text);
    rest.remove_prefix(comma + 1);
  }
}

Outcome<double> parse_speed(std::string_view text) {
  if (lower(text) == "max") return 0.0;
  const Outcome<Measure> measure = split_measure(text);
  if (!measure || (!measure->unit.empty() && measure->unit != "x") || measure->number <= 0) {
    return complain("\"{}\" is not a speed: write max, or a factor such as 1 or 10", text);
  }
  return measure->number;
}

Outcome<bool> parse_switch(std::string_view text) {
  const std::string word = lower(text);
  if (word == "true" || word == "yes" || word == "on" || word == "1") return true;
  if (word == "false" || word == "no" || word == "off" || word == "0") return false;
  return complain("\"{}\" is neither true nor false", text);
}

std::string format_count(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (std::size_t place = digits.size(); place > 3; place -= 3) digits.insert(place - 3, 1, ',');
  return digits;
}

std::string format_size(std::uint64_t bytes) {
  static constexpr std::array<std::string_view, 4> kUnits{"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double size = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (size >= 1024 && unit + 1 < kUnits.size()) {
    size /= 1024;
    ++unit;
  }
  const bool whole = size == std::floor(size) || size >= 100;
  return whole ? fmt::format("{:.0f} {}", size, kUnits[unit])
               : fmt::format("{:.1f} {}", size, kUnits[unit]);
}

std::string format_duration(std::chrono::nanoseconds duration) {
  const double s = std::chrono::duration<double>(duration).count();
  if (s < 1e-3) return fmt::format("{:.0f} us", s * 1e6);
  if (s < 1) return fmt::format("{:.0f} ms", s * 1e3);
  if (s < 9.95) return fmt::format("{:.1f} s", s);
  const auto whole = static_cast<std::uint64_t>(std::llround(s));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

}  // namespace membrain
