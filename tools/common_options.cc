#include "tools/common_options.h"

#include <cerrno>
#include <cstring>
#include <fstream>

namespace membrain {

void CommonOptions::bind(Command& command) {
  command.text("config", config, "FILE", "Read options from this TOML file")
      .text("secret-file", secret_file, "FILE",
            "Read the cluster's secret from the first line of this file")
      .text("log-level", log_level, "LEVEL", "What to log on stderr: debug, info, warn or error")
      .standard("info for server and node, else warn")
      .toggle("verbose", verbose, "The same as --log-level debug")
      .letter('v');
}

Outcome<LogLevel> CommonOptions::level(LogLevel standard) const {
  if (verbose) return LogLevel::debug;
  if (log_level.empty()) return standard;
  if (log_level != "debug" && log_level != "info" && log_level != "warn" && log_level != "error") {
    return complain("--log-level: \"{}\" is none of debug, info, warn, error", log_level);
  }
  return log_level_named(log_level);
}

Outcome<std::string> CommonOptions::secret(const Environment& environment) const {
  if (secret_file.empty()) {
    const auto found = environment.find(kSecretVariable);
    return found == environment.end() ? std::string() : found->second;
  }
  std::ifstream file(secret_file);
  std::string line;
  if (!file || !std::getline(file, line)) {
    return complain("--secret-file {}: cannot be read: {}", secret_file,
                    file.eof() ? "it is empty" : std::strerror(errno));
  }
  if (line.ends_with('\r')) line.pop_back();
  if (line.empty()) return complain("--secret-file {}: its first line is empty", secret_file);
  return line;
}

}  // namespace membrain
