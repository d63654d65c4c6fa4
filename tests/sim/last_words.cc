#include "tests/sim/last_words.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

namespace membrain::sim {

namespace {

struct LastWords {
  std::array<char, 1024> text{};
  std::size_t size = 0;
};
LastWords last_words;
std::array<char, 16384> signal_stack;  ///< the other one may be what overflowed

extern "C" void say_last_words(int signal) {
  const ssize_t written = ::write(STDERR_FILENO, last_words.text.data(), last_words.size);
  static_cast<void>(written);
  ::raise(signal);  // SA_RESETHAND: as it would have ended without us
}

}  // namespace

void keep_last_words() {
  stack_t stack{};
  stack.ss_sp = signal_stack.data();
  stack.ss_size = signal_stack.size();
  ::sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_handler = say_last_words;
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_ONSTACK | SA_NODEFER;
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
    ::sigaction(signal, &action, nullptr);
  }
}

void set_last_words(std::string_view words) noexcept {
  last_words.size = std::min(words.size(), last_words.text.size());
  std::memcpy(last_words.text.data(), words.data(), last_words.size);
}

}  // namespace membrain::sim
