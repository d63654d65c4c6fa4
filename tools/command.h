// A command and its options: each option is a value of a plain struct, with a name and a sentence.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/outcome.h"

namespace membrain {

/// One option: what it is called, and how its text becomes a value.
struct OptionSpec {
  std::string name;    ///< without dashes; also its key in TOML; MEMBRAIN_<NAME> in the environment
  std::string letter;  ///< one letter for the command line, or none
  std::string meta;    ///< what stands for its value in the help; empty for a switch
  std::string help;    ///< a sentence, without the default
  std::string standard;     ///< the default as text; empty if there is none
  bool negatable = false;   ///< a switch that also has --no-NAME
  bool repeatable = false;  ///< what it is given each time is joined with commas
  bool hidden = false;      ///< for processes that we start ourselves
  bool required = false;
  std::function<Outcome<>(std::string_view)> assign;
};

/// Words that stand behind the command by themselves: what it is to do. On the command line alone.
struct WordsSpec {
  std::string meta;  ///< what stands for them in the help
  std::string help;  ///< lines
  std::vector<std::string>* values = nullptr;
};

/// Options of one command, bound to values that outlive it. Defaults are what the values hold when
/// they are bound.
class Command {
 public:
  Command(std::string name, std::string about, std::function<Exit()> run);

  Command& text(std::string_view name, std::string& value, std::string_view meta,
                std::string_view help);
  /// May be given several times, or once with commas.
  Command& list(std::string_view name, std::vector<std::string>& values, std::string_view meta,
                std::string_view help);
  Command& address(std::string_view name, std::string& value, std::string_view help);
  /// The servers of a cluster, between commas.
  Command& servers(std::string_view name, std::string& value, std::string_view help);
  Command& size(std::string_view name, std::uint64_t& bytes, std::string_view help);
  Command& count(std::string_view name, std::uint64_t& value, std::string_view help);
  Command& speed(std::string_view name, double& factor, std::string_view help);
  Command& duration(std::string_view name, std::chrono::milliseconds& value, std::string_view help);
  /// --name; false unless given.
  Command& toggle(std::string_view name, bool& value, std::string_view help);
  /// --name and --no-name.
  Command& choice(std::string_view name, bool& value, std::string_view help);
  Command& words(std::string_view meta, std::vector<std::string>& values, std::string_view help);

  // Of the option that was added last:
  Command& letter(char letter);
  Command& required();
  Command& hide_option();
  /// What the help calls the default, where the value itself says nothing ("enough for all").
  Command& standard(std::string_view words);

  /// Not shown in the list of commands.
  Command& hide();
  /// Runs until it is stopped: it logs what it does unless told otherwise, others only warn.
  Command& serves();

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] const std::string& about() const noexcept { return about_; }
  [[nodiscard]] bool hidden() const noexcept { return hidden_; }
  [[nodiscard]] bool is_service() const noexcept { return service_; }
  [[nodiscard]] const std::vector<OptionSpec>& options() const noexcept { return options_; }
  [[nodiscard]] const std::optional<WordsSpec>& words() const noexcept { return words_; }
  [[nodiscard]] const OptionSpec* find(std::string_view option) const noexcept;
  Exit run() const { return run_(); }

 private:
  OptionSpec& add(std::string_view name, std::string_view meta, std::string_view help);

  std::string name_;
  std::string about_;
  std::function<Exit()> run_;
  bool hidden_ = false;
  bool service_ = false;
  std::vector<OptionSpec> options_;
  std::optional<WordsSpec> words_;
};

}  // namespace membrain
