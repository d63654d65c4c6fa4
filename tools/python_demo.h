// `membrain demo --python`: the Python package's own demo.
#pragma once

#include "tools/outcome.h"

namespace membrain {

/// Becomes `python3 -m membrain.demo`, with the package of the same build if there is one. Returns
/// only with the reason why it could not.
[[nodiscard]] Outcome<> become_python_demo();

}  // namespace membrain
