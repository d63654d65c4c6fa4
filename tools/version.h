// What this program calls itself.
#pragma once

#include <string_view>

namespace membrain {

inline constexpr const char* kVersion = MEMBRAIN_VERSION;
/// "Release", "RelWithDebInfo", ...; empty if nobody chose.
inline constexpr std::string_view kBuildType = MEMBRAIN_BUILD_TYPE;

}  // namespace membrain
