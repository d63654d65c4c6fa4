// What a small service says over HTTP.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace membrain {

/// The body of what `GET path` yields at `address` ("host:port") with status 200; nothing if it
/// yields anything else, more than 16 MiB, or is not over within `patience`. Blocks.
[[nodiscard]] std::optional<std::string> http_get(const std::string& address,
                                                  const std::string& path,
                                                  std::chrono::milliseconds patience);

}  // namespace membrain
