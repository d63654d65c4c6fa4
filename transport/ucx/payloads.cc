#include "transport/ucx/payloads.h"

namespace membrain {

std::uint64_t Payloads::add(Connection& connection, const HeldBytes& data) {
  if (free_.empty()) {
    free_.push_back(static_cast<std::uint32_t>(entries_.size()));
    entries_.emplace_back();
  }
  const std::uint32_t index = free_.back();
  free_.pop_back();
  Entry& entry = entries_[index];
  entry = {&connection, data, entry.use + 1, true};
  return (std::uint64_t{entry.use} << 32) | index;
}

Payloads::Entry Payloads::take(std::uint64_t id) noexcept {
  const auto index = static_cast<std::uint32_t>(id);
  if (index >= entries_.size()) return {};
  Entry& entry = entries_[index];
  if (!entry.taken || entry.use != id >> 32) return {};
  const Entry taken = entry;
  entry = {nullptr, {}, taken.use, false};
  free_.push_back(index);
  return taken;
}

}  // namespace membrain
