// Graphs that are captured on the fake GPU: what another thread's calls do to them.
#pragma once

#include "transport/cuda/api.h"

namespace membrain::cuda::fake {

/// What a call answers that could be unsafe while a graph is captured, before all else.
Status capture_verdict();

}  // namespace membrain::cuda::fake
