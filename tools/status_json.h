// A shard's status as JSON, for the admin page.
#pragma once

#include <string>

#include "server/shard_status.h"

namespace membrain {

/// One object, indented, with a newline.
[[nodiscard]] std::string to_json(const ShardStatus& status);

}  // namespace membrain
