// Broken promises inside Membrain end the process: on in every build.
#pragma once

#include <string_view>

namespace membrain {

/// Logs where and what, then aborts.
[[noreturn]] void check_failed(std::string_view what, const char* file, int line) noexcept;

/// Holds, or the process ends. For promises that only a bug of ours can break, never for input or
/// for a peer's behaviour: those are a `Result`.
inline void check(bool holds, std::string_view what, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) noexcept {
  if (!holds) [[unlikely]]
    check_failed(what, file, line);
}

}  // namespace membrain
