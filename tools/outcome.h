// What a command says when something goes wrong: a sentence for the person at the terminal.
#pragma once

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace membrain {

/// A failure in words, without a trailing full stop: what is wrong, and what to do about it.
struct Complaint {
  std::string text;
};

/// A `T`, or the sentence to show in its place.
template <class T = void>
using Outcome = tl::expected<T, Complaint>;

/// `return complain("port {} is in use", port);`
template <class... Args>
[[nodiscard]] tl::unexpected<Complaint> complain(fmt::format_string<Args...> format,
                                                 Args&&... args) {
  return tl::unexpected<Complaint>({fmt::format(format, std::forward<Args>(args)...)});
}

/// How a command ended, as its exit status.
enum class Exit : int {
  ok = 0,
  failure = 1,  ///< it could not do what was asked, or bytes were wrong
  usage = 2,    ///< the command line or the configuration is wrong
};

}  // namespace membrain
