// What happened to a request, in lines for people.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tools/engine_wire.h"

namespace membrain {

/// One thing that happened.
struct Event {
  enum class Kind : std::uint8_t { store, hit } kind;
  std::string text;  ///< "MEMBRAIN HIT    engine 1  request 7  ..."
};

/// None, one or two events: blocks that were reused, and blocks that were stored.
[[nodiscard]] std::vector<Event> events_of(std::size_t engine, const EngineReport& report);

}  // namespace membrain
