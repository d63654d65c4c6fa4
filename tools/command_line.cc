#include "tools/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <memory>
#include <optional>
#include <sstream>
#include <utility>

#include "tools/config_file.h"
#include "tools/version.h"

namespace membrain {
namespace {

constexpr const char* kFooter =
    "Every option can also stand in the environment (--state-dir is MEMBRAIN_STATE_DIR) or in a\n"
    "TOML file (--config, one table for each command). The command line wins over the "
    "environment,\n"
    "the environment over the file. The cluster's secret comes from MEMBRAIN_SECRET or\n"
    "--secret-file. Exit status: 0 done, 1 failed, 2 wrong usage.";

/// What CLI11 found of a command: one entry for each option, in their order.
struct Found {
  std::vector<CLI::Option*> options;
  CLI::Option* words = nullptr;
};
using Bound = std::map<const Command*, Found>;

constexpr std::size_t kNameColumns = 26;
constexpr std::size_t kHelpColumns = 100 - kNameColumns - 1;

/// Breaks between words, so that no line is longer than `columns`.
std::string wrapped(const std::string& text, std::size_t columns) {
  std::string result;
  std::size_t column = 0;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const bool fits = column + 1 + word.size() <= columns;
    if (column != 0) result += fits ? ' ' : '\n';
    column = column != 0 && fits ? column + 1 + word.size() : word.size();
    result += word;
  }
  return result;
}

std::string help_of(const OptionSpec& option) {
  std::string help = option.help;
  if (option.required) help += " (required)";
  if (!option.standard.empty()) help += " [" + option.standard + "]";
  return wrapped(help, kHelpColumns);
}

/// CLI11's help, without what it says about how switches are turned off.
class HelpText final : public CLI::Formatter {
 public:
  HelpText() {
    column_width(kNameColumns);
    label("SUBCOMMAND", "COMMAND");
  }
  std::string make_option_name(const CLI::Option* option, bool positional) const override {
    std::string name = Formatter::make_option_name(option, positional);
    if (const std::size_t at = name.find("{false}"); at != std::string::npos) name.erase(at, 7);
    return name;
  }
};

CLI::Option* declare(CLI::App& app, const OptionSpec& option) {
  std::string names = (option.letter.empty() ? "" : "-" + option.letter + ",") + "--" + option.name;
  if (option.negatable) names += ",!--no-" + option.name;
  const std::string help = help_of(option);
  CLI::Option* const declared = option.meta.empty() ? app.add_flag(names, help)
                                                    : app.add_option_function<std::string>(
                                                          names, [](const std::string&) {}, help);
  if (!option.meta.empty()) declared->type_name(option.meta);
  if (option.repeatable) declared->multi_option_policy(CLI::MultiOptionPolicy::Join);
  if (option.hidden) declared->group("");
  return declared;
}

CLI::Option* declare_words(CLI::App& app, const WordsSpec& words) {
  CLI::Option* const declared = app.add_option_function<std::vector<std::string>>(
      words.meta, [](const std::vector<std::string>&) {}, words.help);
  declared->type_name("");
  return declared;
}

void declare_all(CLI::App& app, const std::vector<Command>& commands, Bound& bound) {
  app.set_version_flag("--version", fmt::format("membrain {}", kVersion), "Show the version");
  app.set_help_flag("-h,--help", "Show this help");
  app.formatter(std::make_shared<HelpText>());
  app.footer(kFooter);
  app.require_subcommand(0, 1);  // a word of a command is no other command
  for (const Command& command : commands) {
    CLI::App* const sub = app.add_subcommand(command.name(), command.about());
    sub->set_help_flag("-h,--help", "Show this help");
    sub->footer(kFooter);
    sub->group(command.hidden() ? "" : "Commands");
    for (const OptionSpec& option : command.options()) {
      bound[&command].options.push_back(declare(*sub, option));
    }
    if (command.words()) bound[&command].words = declare_words(*sub, *command.words());
  }
}

std::optional<Setting> from_command_line(const OptionSpec& option, const CLI::Option& given) {
  if (given.count() == 0) return std::nullopt;
  if (!option.repeatable) return Setting{given.results().back(), given.get_name()};
  std::string joined;
  for (const std::string& one : given.results()) joined += (joined.empty() ? "" : ",") + one;
  return Setting{joined, given.get_name()};
}

std::optional<Setting> from_environment(const OptionSpec& option, const Environment& environment) {
  const auto found = environment.find(variable_of(option.name));
  if (found == environment.end()) return std::nullopt;
  return Setting{found->second, found->first};
}

std::optional<Setting> from_file(const ConfigFile& file, const std::string& table,
                                 const OptionSpec& option) {
  const auto keys = file.find(table);
  if (keys == file.end()) return std::nullopt;
  const auto found = keys->second.find(option.name);
  if (found == keys->second.end()) return std::nullopt;
  return found->second;
}

/// An option that every command has may stand at the top of the file.
bool shared(const std::vector<Command>& commands, const std::string& option) {
  return std::ranges::all_of(
      commands, [&](const Command& command) { return command.find(option) != nullptr; });
}

/// Every table is a command, every key one of its options.
Outcome<> check_names(const ConfigFile& file, const std::vector<Command>& commands) {
  for (const auto& [table, keys] : file) {
    const auto command = std::ranges::find(commands, table, &Command::name);
    if (!table.empty() && command == commands.end()) {
      const std::string where = keys.empty() ? "" : keys.begin()->second.source + ": ";
      return complain("{}there is no command for the table [{}]", where, table);
    }
    for (const auto& [key, setting] : keys) {
      const bool known = table.empty() ? shared(commands, key) : command->find(key) != nullptr;
      if (!known || key == "config") {
        return complain("{}: unknown key \"{}\"{}", setting.source, key,
                        table.empty() ? " outside any table" : " in [" + table + "]");
      }
    }
  }
  return {};
}

Outcome<ConfigFile> load_file(const Command& command, const std::vector<CLI::Option*>& options,
                              const std::vector<Command>& commands,
                              const Environment& environment) {
  const OptionSpec* const option = command.find("config");
  if (option == nullptr) return ConfigFile{};
  std::optional<Setting> path = from_command_line(
      *option, *options[static_cast<std::size_t>(option - command.options().data())]);
  if (!path) path = from_environment(*option, environment);
  if (!path || path->value.empty()) return ConfigFile{};
  Outcome<ConfigFile> file = read_config_file(path->value);
  if (!file) return file;
  if (const Outcome<> named = check_names(*file, commands); !named) {
    return tl::unexpected(named.error());
  }
  return file;
}

Outcome<> assign_all(const Command& command, const std::vector<CLI::Option*>& options,
                     const Environment& environment, const ConfigFile& file) {
  for (std::size_t index = 0; index < options.size(); ++index) {
    const OptionSpec& option = command.options()[index];
    std::optional<Setting> setting = from_command_line(option, *options[index]);
    if (!setting) setting = from_environment(option, environment);
    if (!setting) setting = from_file(file, command.name(), option);
    if (!setting) setting = from_file(file, "", option);
    if (!setting) {
      if (option.required) return complain("--{} {} is needed", option.name, option.meta);
      continue;
    }
    if (const Outcome<> assigned = option.assign(setting->value); !assigned) {
      return complain("{}: {}", setting->source, assigned.error().text);
    }
  }
  return {};
}

std::vector<std::string> unknown_variables(const std::vector<Command>& commands,
                                           const Environment& environment) {
  std::vector<std::string> unknown;
  for (const auto& [name, value] : environment) {
    const bool known =
        name == kSecretVariable || std::ranges::any_of(commands, [&](const Command& command) {
          return std::ranges::any_of(command.options(), [&](const OptionSpec& option) {
            return variable_of(option.name) == name;
          });
        });
    if (!known) unknown.push_back(fmt::format("{} is no option of any command", name));
  }
  return unknown;
}

/// CLI11's words, in the order in which it wants them: last first.
std::vector<std::string> reversed(const std::vector<std::string>& words) {
  return {words.rbegin(), words.rend()};
}

}  // namespace

std::string variable_of(const std::string& option) {
  std::string name = "MEMBRAIN_";
  for (const char letter : option) {
    name +=
        letter == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
  }
  return name;
}

Outcome<Intent> parse_command_line(const std::vector<Command>& commands,
                                   const std::vector<std::string>& words,
                                   const Environment& environment) {
  CLI::App app("KV-cache blocks shared by every worker of an LLM inference cluster.", "membrain");
  Bound bound;
  declare_all(app, commands, bound);
  Intent intent;
  try {
    app.parse(reversed(words));
  } catch (const CLI::CallForHelp&) {
    intent.answer = app.help();
    return intent;
  } catch (const CLI::CallForVersion& version) {
    intent.answer = std::string(version.what()) + "\n";
    return intent;
  } catch (const CLI::ParseError& error) {
    return complain("{}", error.what());
  }
  const auto chosen = std::ranges::find_if(
      commands, [&](const Command& command) { return app.got_subcommand(command.name()); });
  if (chosen == commands.end()) return complain("which command? (membrain --help lists them)");
  const Found& found = bound[&*chosen];
  const Outcome<ConfigFile> file = load_file(*chosen, found.options, commands, environment);
  if (!file) return tl::unexpected(file.error());
  const Outcome<> assigned = assign_all(*chosen, found.options, environment, *file);
  if (!assigned) return tl::unexpected(assigned.error());
  if (found.words != nullptr) *chosen->words()->values = found.words->results();
  intent.command = &*chosen;
  intent.warnings = unknown_variables(commands, environment);
  return intent;
}

}  // namespace membrain
