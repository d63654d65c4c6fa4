// JSON whose numbers are all whole.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace membrain {

/// Parses it, with real numbers read as null, which no integer is taken from: what a conversion
/// makes of 1e30 is undefined. Throws what nlohmann::json::parse does.
[[nodiscard]] inline nlohmann::json parse_whole_json(std::string_view text) {
  using nlohmann::json;
  return json::parse(text, [](int, json::parse_event_t, json& value) {
    if (value.is_number_float()) value = nullptr;
    return true;
  });
}

}  // namespace membrain
