// What Membrain sets in UCX's environment before UCX reads it.
#pragma once

#include <filesystem>
#include <vector>

namespace membrain {

struct UcxPreset {
  const char* name;
  const char* value;
};

/// The variables that suit this machine's devices, which `sysfs` (/sys) lists. Only the environment
/// reaches UCX's transports on 1.13: it accepts and ignores them in ucp_config_modify.
std::vector<UcxPreset> presets_for(const std::filesystem::path& sysfs);

}  // namespace membrain
