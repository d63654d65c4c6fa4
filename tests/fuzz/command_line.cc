// A command line with every kind of option, its environment and its configuration file, together.
//
// Input: lines. Those before an empty line are words; those of the next paragraph that hold a "="
// are variables; the rest is the configuration file.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/fuzz/target.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/common_options.h"

namespace membrain::fuzz {
namespace {

std::string_view next_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

struct Input {
  std::vector<std::string> words;
  Environment environment;
  std::string_view file;
};

Input input_of(std::string_view text) {
  Input input;
  while (!text.empty()) {
    const std::string_view word = next_line(text);
    if (word.empty()) break;
    input.words.emplace_back(word);
  }
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) break;
    input.environment.emplace("MEMBRAIN_" + std::string(line.substr(0, equals)),
                              line.substr(equals + 1));
  }
  input.file = text;
  return input;
}

/// What options can be, each once.
struct Values {
  std::string text;
  std::vector<std::string> list;
  std::string address = "127.0.0.1:1";
  std::string servers = "127.0.0.1:1";
  std::uint64_t size = 1;
  std::uint64_t count = 1;
  double speed = 1;
  std::chrono::milliseconds duration{1};
  bool toggle = false;
  bool choice = true;
};

std::vector<Command> all_commands(CommonOptions& common, Values& values) {
  const auto nothing = [] { return Exit::ok; };
  Command node("node", "has every kind of option", nothing);
  node.text("text", values.text, "TEXT", "a text")
      .letter('t')
      .list("list", values.list, "TEXT", "texts")
      .address("address", values.address, "an address")
      .servers("server", values.servers, "addresses")
      .size("size", values.size, "a size")
      .count("count", values.count, "a count")
      .speed("speed", values.speed, "a speed")
      .duration("timeout", values.duration, "a duration")
      .toggle("json", values.toggle, "a switch")
      .choice("verify", values.choice, "a choice");
  Command server("server", "needs an option, and hides one", nothing);
  server.text("need", values.text, "TEXT", "needed").required();
  server.text("hidden", values.text, "TEXT", "not shown").hide_option();
  std::vector<Command> commands{std::move(node), std::move(server)};
  for (Command& command : commands) common.bind(command);
  return commands;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Folder folder;
  static CommonOptions common;
  static Values values;
  static const std::vector<Command> commands = all_commands(common, values);
  Input input = input_of(text_of(bytes_of(data, size)));
  // A file that the words name is somebody's: only ours is read.
  std::erase_if(input.words,
                [](const std::string& word) { return word.find("--config") != std::string::npos; });
  const std::string path = folder.put("membrain.toml", std::as_bytes(std::span(input.file)));
  input.environment["MEMBRAIN_CONFIG"] = path;
  const Outcome<Intent> intent = parse_command_line(commands, input.words, input.environment);
  if (!intent) {
    check(!intent.error().text.empty(), "nobody says what is wrong with a command line");
    return 0;
  }
  check(intent->command != nullptr || !intent->answer.empty(), "nothing is to be done");
  return 0;
}

}  // namespace membrain::fuzz
