#include "cache/client/mapped_nodes.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace membrain {

MappedNodes::MappedNodes(Loop& loop, std::unique_ptr<ArenaOpener> opener, std::string host)
    : loop_(loop), opener_(std::move(opener)), host_(std::move(host)), settled_(loop.ready()) {}

MappedNodes::~MappedNodes() {
  check(opening_ == 0, "MappedNodes were destroyed at a door");
}

bool MappedNodes::mappable(const wire::NodeEntry& node) const noexcept {
  return node.alive && !node.door.empty() && node.host == host_;
}

void MappedNodes::update(const std::vector<wire::NodeEntry>& nodes) {
  if (!opener_ || host_.empty() || stopped_) return;
  const std::size_t before = neighbours_.size();
  std::erase_if(neighbours_, [&](const auto& entry) {
    return std::none_of(nodes.begin(), nodes.end(), [&](const wire::NodeEntry& node) {
      return node.node == entry.first && node.incarnation == entry.second.life &&
             node.door == entry.second.door && mappable(node);
    });
  });
  if (neighbours_.size() != before) publish();
  for (const wire::NodeEntry& node : nodes) {
    if (!mappable(node)) continue;
    Neighbour& neighbour = neighbours_[node.node];
    if (neighbour.arena || neighbour.opening) continue;
    neighbour.life = node.incarnation;
    neighbour.door = node.door;
    neighbour.opening = true;
    ++opening_;
    loop_.spawn(open(node));
  }
}

Task<> MappedNodes::open(wire::NodeEntry node) {
  const wire::NodeEntry wanted = node;
  Task<Result<std::shared_ptr<const MappedArena>>> opening =
      opener_->open(std::move(node), loop_.now() + kPatience);
  Result<std::shared_ptr<const MappedArena>> arena = co_await opening;
  const auto found = neighbours_.find(wanted.node);
  const bool meant = found != neighbours_.end() && found->second.life == wanted.incarnation &&
                     found->second.door == wanted.door;
  if (meant) {
    Neighbour& neighbour = found->second;
    neighbour.opening = false;
    if (arena) {
      neighbour.arena = std::move(*arena);
      publish();
    } else if (!std::exchange(neighbour.told, true)) {
      log(LogLevel::info,
          "node {} is on this host, but its arena cannot be mapped ({}): it is asked",
          wanted.node.value, arena.error().context);
    }
  }
  --opening_;
  settled_.raise();
}

void MappedNodes::publish() {
  auto set = std::make_shared<ArenaSet>();
  bool any = false;
  for (const auto& [id, neighbour] : neighbours_) {
    if (!neighbour.arena) continue;
    set->add(neighbour.arena);
    any = true;
  }
  const std::lock_guard lock(mutex_);
  arenas_ = any ? std::move(set) : nullptr;
  any_.store(any, std::memory_order_relaxed);
}

std::shared_ptr<const ArenaSet> MappedNodes::arenas() const {
  if (!any_.load(std::memory_order_relaxed)) return nullptr;
  const std::lock_guard lock(mutex_);
  return arenas_;
}

Task<> MappedNodes::settle() {
  while (opening_ != 0) co_await settled_;
}

Task<> MappedNodes::stop() {
  stopped_ = true;
  neighbours_.clear();
  publish();
  while (opening_ != 0) co_await settled_;
}

}  // namespace membrain
