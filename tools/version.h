// What this program calls itself.
#pragma once

namespace membrain {

inline constexpr const char* kVersion = MEMBRAIN_VERSION;

}  // namespace membrain
