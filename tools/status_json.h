// A server's status as JSON, for the admin page.
#pragma once

#include <string>
#include <vector>

#include "server/shard_status.h"

namespace membrain {

/// One object, indented, with a newline: what is said of all shards together, then each. `shards`
/// has one at least.
[[nodiscard]] std::string to_json(const std::vector<ShardStatus>& shards);

}  // namespace membrain
