// Where a leader is, as the server says that was asked.
#pragma once

#include <string>
#include <string_view>

namespace membrain {

/// `leader` as one reaches it who has reached `asked`. A server that listens on all addresses of
/// its host ("0.0.0.0:9201", "[::]:9201") and was not told its own names none of them: it is on the
/// host of the one that was asked, itself.
[[nodiscard]] std::string leader_address(std::string_view leader, std::string_view asked);

}  // namespace membrain
