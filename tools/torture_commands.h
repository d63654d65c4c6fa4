// The two commands of a torture run: the one that people call, and its engines.
#pragma once

#include "tools/program.h"

namespace membrain {

[[nodiscard]] Command torture_command(Program& program);
[[nodiscard]] Command torture_engine_command(Program& program);

}  // namespace membrain
