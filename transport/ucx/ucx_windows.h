// Windows over UCX: remote reads by hardware, in a context of their own.
#pragma once

#include <memory>

#include "transport/loop.h"
#include "transport/ucx/ucx_context.h"
#include "transport/windows.h"

namespace membrain {

/// `config` names the devices and transports. Empty transports: reliable connections of RDMA
/// devices alone; nothing that TCP carries is ever read as if it were memory. `unavailable` without
/// such a device.
///
/// Ownership  The loop outlives it, and it outlives the windows that it opened or entered.
Result<std::unique_ptr<Windows>> make_ucx_windows(Loop& loop, UcxContextConfig config);

}  // namespace membrain
