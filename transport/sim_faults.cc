// SimNetwork: what a test does to processes and to the network between them.
#include <algorithm>
#include <utility>

#include "transport/sim_fabric.h"
#include "transport/sim_network.h"
#include "transport/sim_windows.h"

namespace membrain {

std::uint32_t SimNetwork::process_of(std::string_view name) {
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    if (processes_[i].name == name) return static_cast<std::uint32_t>(i);
  }
  processes_.push_back({std::string(name)});
  return static_cast<std::uint32_t>(processes_.size() - 1);
}

// --- Partitions. ---

void SimNetwork::partition(std::string_view a, std::string_view b, bool on) {
  partition_one_way(a, b, on);
  partition_one_way(b, a, on);
}

void SimNetwork::partition_one_way(std::string_view from, std::string_view to, bool on) {
  set_blocked(process_of(from), process_of(to), on);
  if (!on) release_held();
}

void SimNetwork::heal_partitions() {
  for (Block& block : blocks_) block.on = false;
  blocks_on_ = 0;
  release_held();
}

bool SimNetwork::blocked(std::uint32_t from, std::uint32_t to) const noexcept {
  if (blocks_on_ == 0) return false;
  return std::any_of(blocks_.begin(), blocks_.end(), [&](const Block& block) {
    return block.on && block.from == from && block.to == to;
  });
}

void SimNetwork::set_blocked(std::uint32_t from, std::uint32_t to, bool on) {
  auto block = std::find_if(blocks_.begin(), blocks_.end(), [&](const Block& known) {
    return known.from == from && known.to == to;
  });
  if (block == blocks_.end()) block = blocks_.insert(block, {from, to, 0, false});
  if (block->on == on) return;
  block->on = on;
  blocks_on_ += on ? 1 : static_cast<std::size_t>(-1);
  const auto index = static_cast<std::uint32_t>(block - blocks_.begin());
  if (on) at(now() + faults_.partition_notice, Kind::partition_noticed, {index, ++block->serial});
}

void SimNetwork::partition_noticed(const SimEvent& event) {
  const Block& block = blocks_[event.index];
  if (block.on && block.serial == event.generation) break_links_between(block.from, block.to);
}

void SimNetwork::break_links_between(std::uint32_t a, std::uint32_t b) {
  for (std::uint32_t i = 0; i < links_.size(); ++i) {
    const std::uint32_t first = links_[i].ends[0].process;
    const std::uint32_t second = links_[i].ends[1].process;
    if ((first == a && second == b) || (first == b && second == a)) break_link(i);
  }
}

void SimNetwork::reset_connections(std::string_view a, std::string_view b) {
  break_links_between(process_of(a), process_of(b));
}

void SimNetwork::release_held() {
  // At this very time, so before whatever is sent from now on; those still held up are held again.
  for (SimEvent& event : std::exchange(held_, {})) {
    event.when = now();
    agenda_.add(event);
  }
}

// --- Processes. ---

void SimNetwork::kill(std::string_view process) {
  const std::uint32_t number = process_of(process);
  for (SimFabric* fabric : fabrics_) {
    if (fabric->process_ != number || fabric->killed_) continue;
    fabric->killed_ = true;
    cut_off(*fabric);
  }
  for (SimWindows* windows : windows_) {
    if (windows->process_ == number) windows->killed_ = true;
  }
  std::erase_if(opened_, [&](const auto& item) { return item.second.process == number; });
  connects_.for_each([&](SimConnect& attempt) {
    if (attempt.settled == nullptr || !attempt.fabric->killed_) return;
    std::exchange(attempt.settled, nullptr)->finish(fail(Errc::unavailable, "the process is dead"));
  });
  processes_[number].paused = false;
  release_held();
}

void SimNetwork::pause(std::string_view process) {
  processes_[process_of(process)].paused = true;
}

void SimNetwork::resume(std::string_view process) {
  processes_[process_of(process)].paused = false;
  release_held();
}

bool SimNetwork::paused(std::string_view process) noexcept {
  return processes_[process_of(process)].paused;
}

void SimNetwork::slow_down(std::string_view process, Duration by) {
  processes_[process_of(process)].slowness = by;
}

}  // namespace membrain
