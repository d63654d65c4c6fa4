// What of a ClientConfig is refused.
#pragma once

#include "membrain/client.h"
#include "membrain/result.h"

namespace membrain {

/// `invalid_argument` with what is wrong. Time-outs are cut to the longest that anybody waits.
[[nodiscard]] Result<> check_config(ClientConfig& config);

}  // namespace membrain
