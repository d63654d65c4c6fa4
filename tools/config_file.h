// The configuration file: TOML, one table for each command.
#pragma once

#include <map>
#include <string>

#include "tools/outcome.h"

namespace membrain {

/// A value before it is understood, and who said it: "--capacity", "MEMBRAIN_CAPACITY" or
/// "cluster.toml:7".
struct Setting {
  std::string value;
  std::string source;
};

/// Table -> key -> value; keys outside any table are under "".
using ConfigFile = std::map<std::string, std::map<std::string, Setting>>;

/// Reads a file such as
///     log-level = "debug"
///     [node]
///     server = "10.0.0.1:9201"
///     capacity = "64GiB"
/// Complaints name file and line.
[[nodiscard]] Outcome<ConfigFile> read_config_file(const std::string& path);

}  // namespace membrain
