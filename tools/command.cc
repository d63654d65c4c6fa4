#include "tools/command.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tools/units.h"

namespace membrain {
namespace {

/// Stores what `parse` makes of the text, or passes its complaint on.
template <class Target, class Parsed>
std::function<Outcome<>(std::string_view)> assign_to(Target& target,
                                                     Outcome<Parsed> (*parse)(std::string_view)) {
  return [&target, parse](std::string_view text) -> Outcome<> {
    Outcome<Parsed> value = parse(text);
    if (!value) return tl::unexpected(std::move(value.error()));
    target = std::move(*value);
    return {};
  };
}

Outcome<std::chrono::milliseconds> parse_milliseconds(std::string_view text) {
  const Outcome<std::chrono::nanoseconds> value = parse_duration(text);
  if (!value) return tl::unexpected(value.error());
  return std::chrono::ceil<std::chrono::milliseconds>(*value);
}

Outcome<std::string> parse_text(std::string_view text) {
  return std::string(text);
}

/// Between commas; empty parts are left out.
Outcome<std::vector<std::string>> parse_list(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    if (comma > 0) parts.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return parts;
}

}  // namespace

Command::Command(std::string name, std::string about, std::function<Exit()> run)
    : name_(std::move(name)), about_(std::move(about)), run_(std::move(run)) {}

OptionSpec& Command::add(std::string_view name, std::string_view meta, std::string_view help) {
  OptionSpec option;
  option.name = name;
  option.meta = meta;
  option.help = help;
  options_.push_back(std::move(option));
  return options_.back();
}

Command& Command::text(std::string_view name, std::string& value, std::string_view meta,
                       std::string_view help) {
  OptionSpec& option = add(name, meta, help);
  option.standard = value;
  option.assign = assign_to(value, parse_text);
  return *this;
}

Command& Command::list(std::string_view name, std::vector<std::string>& values,
                       std::string_view meta, std::string_view help) {
  OptionSpec& option = add(name, meta, help);
  option.repeatable = true;
  option.assign = assign_to(values, parse_list);
  return *this;
}

Command& Command::address(std::string_view name, std::string& value, std::string_view help) {
  OptionSpec& option = add(name, "HOST:PORT", help);
  option.standard = value;
  option.assign = assign_to(value, parse_address);
  return *this;
}

Command& Command::servers(std::string_view name, std::string& value, std::string_view help) {
  OptionSpec& option = add(name, "HOST:PORT", help);
  option.standard = value;
  option.assign = assign_to(value, parse_addresses);
  return *this;
}

Command& Command::size(std::string_view name, std::uint64_t& bytes, std::string_view help) {
  OptionSpec& option = add(name, "SIZE", help);
  if (bytes != 0) option.standard = format_size(bytes);
  option.assign = assign_to(bytes, parse_size);
  return *this;
}

Command& Command::count(std::string_view name, std::uint64_t& value, std::string_view help) {
  OptionSpec& option = add(name, "N", help);
  if (value != 0) option.standard = format_count(value);
  option.assign = assign_to(value, parse_whole);
  return *this;
}

Command& Command::speed(std::string_view name, double& factor, std::string_view help) {
  OptionSpec& option = add(name, "X|max", help);
  option.standard = factor == 0 ? "max" : fmt::format("{}", factor);
  option.assign = assign_to(factor, parse_speed);
  return *this;
}

Command& Command::duration(std::string_view name, std::chrono::milliseconds& value,
                           std::string_view help) {
  OptionSpec& option = add(name, "TIME", help);
  option.standard = format_duration(value);
  option.assign = assign_to(value, parse_milliseconds);
  return *this;
}

Command& Command::toggle(std::string_view name, bool& value, std::string_view help) {
  add(name, "", help).assign = assign_to(value, parse_switch);
  return *this;
}

Command& Command::choice(std::string_view name, bool& value, std::string_view help) {
  OptionSpec& option = add(name, "", help);
  option.negatable = true;
  option.standard = value ? "yes" : "no";
  option.assign = assign_to(value, parse_switch);
  return *this;
}

Command& Command::words(std::string_view meta, std::vector<std::string>& values,
                        std::string_view help) {
  words_ = WordsSpec{std::string(meta), std::string(help), &values};
  return *this;
}

Command& Command::letter(char letter) {
  options_.back().letter = std::string(1, letter);
  return *this;
}

Command& Command::required() {
  options_.back().required = true;
  return *this;
}

Command& Command::hide_option() {
  options_.back().hidden = true;
  return *this;
}

Command& Command::standard(std::string_view words) {
  options_.back().standard = words;
  return *this;
}

Command& Command::hide() {
  hidden_ = true;
  return *this;
}

Command& Command::serves() {
  service_ = true;
  return *this;
}

const OptionSpec* Command::find(std::string_view option) const noexcept {
  const auto found = std::ranges::find(options_, option, &OptionSpec::name);
  return found == options_.end() ? nullptr : &*found;
}

}  // namespace membrain
