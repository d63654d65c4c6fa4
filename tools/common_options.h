// What every command can be told.
#pragma once

#include <string>

#include "base/log.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/outcome.h"

namespace membrain {

/// Options that all commands share, and the secret that none of them shows.
struct CommonOptions {
  std::string config;
  std::string secret_file;
  std::string log_level;  ///< empty: the command's own
  bool verbose = false;

  /// Adds them to `command`.
  void bind(Command& command);

  /// The level to log at, `standard` unless told otherwise; complains about a name that is none.
  [[nodiscard]] Outcome<LogLevel> level(LogLevel standard) const;

  /// The first line of the secret's file, else MEMBRAIN_SECRET, else empty. Never logged.
  [[nodiscard]] Outcome<std::string> secret(const Environment& environment) const;
};

}  // namespace membrain
