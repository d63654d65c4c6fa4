// What the facts of a machine mean for Membrain: each a line, and a cure where one is needed. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/machine_facts.h"

namespace membrain {

/// From good to bad; as an exit status 0, 1, 2.
enum class Health : std::uint8_t { ok, warn, fail };
[[nodiscard]] std::string_view to_string(Health health) noexcept;

struct Finding {
  std::string id;  ///< for machines, e.g. "locked-memory"
  Health health = Health::ok;
  std::string text;
  std::string cure;      ///< empty if it is ok
  bool serving = false;  ///< servers and nodes say so when they start
};

/// Everything that can be judged without measuring.
[[nodiscard]] std::vector<Finding> examine(const MachineFacts& facts);

[[nodiscard]] Health worst(const std::vector<Finding>& findings) noexcept;

/// Says what servers and nodes should know of their machine, once, as warnings of the log.
void warn_of_machine();

}  // namespace membrain
