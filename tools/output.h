// Standard output belongs to results: libraries that print there by themselves end up on stderr.
#pragma once

#include <string_view>

namespace membrain {

/// Keeps the real stdout for `say` and points descriptor 1 at stderr. Once, before anything else
/// runs.
void claim_stdout() noexcept;

/// Writes to the real stdout and flushes. Any thread; a closed reader is ignored.
void say(std::string_view text) noexcept;
/// Why some of what was said was not written, as errno; 0: all of it was, or nobody read on.
[[nodiscard]] int stdout_error() noexcept;
/// Undoes `claim_stdout`, for a program that takes this one's place.
void yield_stdout() noexcept;

/// "membrain replay: what is wrong" on stderr.
void complain_aloud(std::string_view command, std::string_view text) noexcept;

/// The real stdout is a terminal.
[[nodiscard]] bool stdout_is_terminal() noexcept;

}  // namespace membrain
