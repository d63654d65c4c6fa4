// The membrain binary: which command, and its exit status.

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/log.h"
#include "tools/command_line.h"
#include "tools/output.h"
#include "tools/program.h"
#include "tools/torture_commands.h"

namespace membrain {
namespace {

Environment environment_of_process() {
  Environment environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (text.starts_with("MEMBRAIN_") && equals != std::string_view::npos) {
      environment.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  return environment;
}

std::vector<Command> all_commands(Program& program) {
  std::vector<Command> commands{
      server_command(program),  node_command(program),          status_command(program),
      ctl_command(program),     replay_command(program),        demo_command(program),
      bench_command(program),   doctor_command(program),        engine_command(program),
      torture_command(program), torture_engine_command(program)};
  for (Command& command : commands) program.common.bind(command);
  return commands;
}

Exit run(const std::vector<std::string>& words) {
  Program program;
  program.environment = environment_of_process();
  const std::vector<Command> commands = all_commands(program);
  const Outcome<Intent> intent = parse_command_line(commands, words, program.environment);
  const std::string_view name = words.empty() ? "" : std::string_view(words.front());
  const bool named = intent && intent->command != nullptr;
  if (intent && !named) {
    say(intent->answer);
    return Exit::ok;
  }
  const bool service = named && intent->command->is_service();
  const Outcome<LogLevel> level = program.common.level(service ? LogLevel::info : LogLevel::warn);
  if (!intent || !level) {
    const bool known = commands.end() != std::ranges::find(commands, name, &Command::name);
    complain_aloud(known ? name : "", intent ? level.error().text : intent.error().text);
    complain_aloud("", fmt::format("\"membrain {}--help\" says how it is used",
                                   known ? std::string(name) + " " : ""));
    return Exit::usage;
  }
  set_log_level(*level);
  for (const std::string& warning : intent->warnings) {
    complain_aloud(name, "warning: " + warning);
  }
  return intent->command->run();
}

/// Whoever asked has not got the whole answer, if some of it could not be written.
Exit unless_unwritten(Exit exit) {
  const int error = stdout_error();
  if (error == 0) return exit;
  complain_aloud("", fmt::format("standard output: {}: what it holds is not complete",
                                 std::generic_category().message(error)));
  return exit == Exit::ok ? Exit::failure : exit;
}

}  // namespace
}  // namespace membrain

int main(int argc, char** argv) {
  membrain::claim_stdout();
  try {
    const std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
    return static_cast<int>(membrain::unless_unwritten(membrain::run(words)));
  } catch (const std::exception& error) {
    membrain::complain_aloud("", error.what());
    return static_cast<int>(membrain::Exit::failure);
  }
}
