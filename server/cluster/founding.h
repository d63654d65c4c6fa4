// A cluster's identity.
#pragma once

#include <string>

#include "base/clock.h"
#include "membrain/result.h"
#include "server/cluster/coordination.h"
#include "server/cluster/names.h"
#include "transport/task.h"

namespace membrain {

/// The id that the first server of this cluster drew: 32 hexadecimal digits. A coordination that
/// has lost everything draws another, and so tells itself from the one before.
Task<Result<std::string>> cluster_id(Coordination& coordination, ClusterNames names,
                                     TimePoint deadline);

}  // namespace membrain
