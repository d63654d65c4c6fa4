#include "tools/config_file.h"

#include <stdexcept>

namespace {
constexpr void believed(bool held) {
  if (!held) throw std::logic_error("toml++");
}
}  // namespace

// toml++ 3.3 asserts what a file may break: a table named [:x] ended the process, and with NDEBUG
// anything might happen.
#undef NDEBUG
#define TOML_ASSERT(expression) believed(static_cast<bool>(expression))
#include <toml++/toml.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <utility>

namespace membrain {
namespace {

/// A string, number or truth value as the text that it would be on the command line.
Outcome<Setting> setting_of(const std::string& path, std::string_view key, const toml::node& node) {
  Setting setting;
  setting.source = fmt::format("{}:{}", path, node.source().begin.line);
  if (const auto* text = node.as_string()) {
    setting.value = text->get();
  } else if (const auto* whole = node.as_integer()) {
    setting.value = fmt::format("{}", whole->get());
  } else if (const auto* real = node.as_floating_point()) {
    setting.value = fmt::format("{}", real->get());
  } else if (const auto* truth = node.as_boolean()) {
    setting.value = truth->get() ? "true" : "false";
  } else {
    return complain("{}: \"{}\" must be a string, a number, true or false", setting.source, key);
  }
  return setting;
}

Outcome<> add(ConfigFile& file, const std::string& path, const std::string& table,
              std::string_view key, const toml::node& node) {
  Outcome<Setting> setting = setting_of(path, key, node);
  if (!setting) return tl::unexpected(setting.error());
  file[table][std::string(key)] = std::move(*setting);
  return {};
}

Outcome<ConfigFile> collect(const std::string& path, const toml::table& root) {
  ConfigFile file;
  for (const auto& [key, node] : root) {
    const toml::table* const table = node.as_table();
    if (table == nullptr) {
      if (const Outcome<> added = add(file, path, "", key.str(), node); !added) {
        return tl::unexpected(added.error());
      }
      continue;
    }
    file[std::string(key.str())];
    for (const auto& [inner, value] : *table) {
      const Outcome<> added = add(file, path, std::string(key.str()), inner.str(), value);
      if (!added) return tl::unexpected(added.error());
    }
  }
  return file;
}

}  // namespace

Outcome<ConfigFile> read_config_file(const std::string& path) {
  std::ifstream stream(path);
  if (!stream) return complain("{}: cannot be read: {}", path, std::strerror(errno));
  try {
    return collect(path, toml::parse(stream, path));
  } catch (const toml::parse_error& error) {
    return complain("{}:{}: {}", path, error.source().begin.line, error.description());
  } catch (const std::logic_error&) {
    return complain("{}: is not TOML: look at the names between [ and ]", path);
  }
}

}  // namespace membrain
