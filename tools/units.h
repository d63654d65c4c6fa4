// Sizes, durations and addresses as people write them, and numbers as people read them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "tools/outcome.h"

namespace membrain {

/// "4GiB", "1.5 MiB", "64K" (binary, as KiB), "2GB" (decimal), "65536" (bytes). Any case.
[[nodiscard]] Outcome<std::uint64_t> parse_size(std::string_view text);

/// "250us", "250ms", "10s", "2m", "1h"; decimals are fine, a unit is needed.
[[nodiscard]] Outcome<std::chrono::nanoseconds> parse_duration(std::string_view text);

/// "host:port" or "[v6]:port", port 0 to 65535; returned as it was written.
[[nodiscard]] Outcome<std::string> parse_address(std::string_view text);

/// One address, or several between commas; returned as it was written.
[[nodiscard]] Outcome<std::string> parse_addresses(std::string_view text);

/// A whole number, 0 to 2^64 - 1.
[[nodiscard]] Outcome<std::uint64_t> parse_whole(std::string_view text);

/// A number greater than 0 with decimals, or "max", which is 0.
[[nodiscard]] Outcome<double> parse_speed(std::string_view text);

/// "true", "yes", "on", "1" and their opposites.
[[nodiscard]] Outcome<bool> parse_switch(std::string_view text);

/// 288500 -> "288,500".
[[nodiscard]] std::string format_count(std::uint64_t count);
/// 12079595520 -> "11.2 GiB"; below 1 KiB "512 B".
[[nodiscard]] std::string format_size(std::uint64_t bytes);
/// 0.25 s -> "250 ms", 75 s -> "1 min 15 s".
[[nodiscard]] std::string format_duration(std::chrono::nanoseconds duration);

}  // namespace membrain
