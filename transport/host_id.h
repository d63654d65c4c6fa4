// Which host this process runs on.
#pragma once

#include <string>

namespace membrain {

/// Equal in all processes of a host, and on no two hosts; another one after a reboot.
[[nodiscard]] std::string host_id();

}  // namespace membrain
