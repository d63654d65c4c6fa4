// What a process still says when a check of our own, or a crash, ends it.
#pragma once

#include <string_view>

namespace membrain::sim {

/// From now on SIGABRT, SIGSEGV, SIGBUS, SIGFPE and SIGILL write the last words to standard error
/// before they end the process.
void keep_last_words();
/// What they are. Longer ones than a kilobyte are cut.
void set_last_words(std::string_view words) noexcept;

}  // namespace membrain::sim
