// From words to values: command line over environment over configuration file.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tools/command.h"
#include "tools/outcome.h"

namespace membrain {

/// Variables whose names begin with MEMBRAIN_.
using Environment = std::map<std::string, std::string>;

/// MEMBRAIN_SECRET is no option: a secret never stands on a command line.
inline constexpr const char* kSecretVariable = "MEMBRAIN_SECRET";

/// What is to be done.
struct Intent {
  const Command* command = nullptr;   ///< null: nothing but to print `answer`
  std::string answer;                 ///< for --help and --version
  std::vector<std::string> warnings;  ///< variables that mean nothing
};

/// Understands the words after the program's name and gives every option of the chosen command its
/// value: from the command line, else from MEMBRAIN_<NAME>, else from the table of the command (or
/// the top, for options that all commands share) in the file that --config or MEMBRAIN_CONFIG
/// names. Whatever is unknown or cannot be read is a complaint that says where it stands.
[[nodiscard]] Outcome<Intent> parse_command_line(const std::vector<Command>& commands,
                                                 const std::vector<std::string>& words,
                                                 const Environment& environment);

/// "state-dir" -> "MEMBRAIN_STATE_DIR".
[[nodiscard]] std::string variable_of(const std::string& option);

}  // namespace membrain
