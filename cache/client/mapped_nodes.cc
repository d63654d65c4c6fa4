#include "cache/client/mapped_nodes.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "cache/memory/bell.h"

namespace membrain {

Task<Result<std::shared_ptr<const WritableArena>>> ArenaOpener::open_writable(wire::NodeEntry,
                                                                              TimePoint) {
  co_return fail(Errc::unavailable, "arenas are not written to here");
}

MappedNodes::MappedNodes(Loop& loop, std::unique_ptr<ArenaOpener> opener, std::string host)
    : loop_(loop), opener_(std::move(opener)), host_(std::move(host)), settled_(loop.ready()) {}

MappedNodes::~MappedNodes() {
  check(opening_ == 0 && pinning_ == 0, "MappedNodes were destroyed at a door");
}

bool MappedNodes::mappable(const wire::NodeEntry& node) const noexcept {
  return node.alive && !node.door.empty() && node.host == host_;
}

void MappedNodes::update(const std::vector<wire::NodeEntry>& nodes) {
  if (!opener_ || host_.empty() || stopped_) return;
  const std::size_t before = neighbours_.size();
  std::erase_if(neighbours_, [&](const auto& entry) {
    return entry.second.writers.empty() &&
           std::none_of(nodes.begin(), nodes.end(), [&](const wire::NodeEntry& node) {
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
      if (pinner_ && !stopped_) {
        ++pinning_;
        loop_.spawn(pin(wanted.node, neighbour.arena));
      }
    } else if (!std::exchange(neighbour.told, true)) {
      log(LogLevel::info,
          "node {} is on this host, but its arena cannot be mapped ({}): it is asked",
          wanted.node.value, arena.error().context);
    }
  }
  --opening_;
  settled_.raise();
}

Task<> MappedNodes::pin(NodeId node, std::shared_ptr<const MappedArena> arena) {
  struct End {
    ArenaPinner::Pinned pinned;
    std::atomic<bool> come = false;
  };
  const std::shared_ptr<const MappedArena> wanted = std::move(arena);
  Task<std::shared_ptr<const WritableArena>> opening = to_pin(node);
  const std::shared_ptr<const WritableArena> writable = co_await opening;
  const auto end = std::make_shared<End>();
  const auto bell = std::make_shared<Bell>(loop_);
  pinner_->pin(wanted, writable, [end, bell](ArenaPinner::Pinned pinned) {
    end->pinned = std::move(pinned);
    end->come.store(true, std::memory_order_release);
    bell->ring();
  });
  Task<> waiting = bell->until([&end] { return end->come.load(std::memory_order_acquire); });
  co_await waiting;
  const auto found = neighbours_.find(node);
  if (found != neighbours_.end() && found->second.arena == wanted) {
    found->second.pinned = std::move(end->pinned);
    publish();
  }
  --pinning_;
  settled_.raise();
}

/// Null where it is not needed, too.
Task<std::shared_ptr<const WritableArena>> MappedNodes::to_pin(NodeId node) {
  if (!pinner_->needs_writable()) co_return nullptr;
  Completion asked(loop_.ready());
  want_writable(node, asked);
  const Result<> answered = co_await asked;
  check(answered.has_value(), "wanting an arena reports no failure");
  const auto found = neighbours_.find(node);
  co_return found != neighbours_.end() ? found->second.writable : nullptr;
}

void MappedNodes::want_writable(NodeId node, Completion& done) {
  const auto found = neighbours_.find(node);
  const bool pointless = stopped_ || found == neighbours_.end() || !found->second.arena ||
                         found->second.writable || found->second.writable_refused;
  if (pointless) return done.finish({});
  found->second.writers.push_back(&done);
  if (found->second.writers.size() > 1) return;
  wire::NodeEntry entry;
  entry.node = node;
  entry.incarnation = found->second.life;
  entry.door = found->second.door;
  ++opening_;
  loop_.spawn(open_writable(std::move(entry)));
}

/// The neighbour stays while somebody waits for it.
Task<> MappedNodes::open_writable(wire::NodeEntry node) {
  const NodeId id = node.node;
  Task<Result<std::shared_ptr<const WritableArena>>> opening =
      opener_->open_writable(std::move(node), loop_.now() + kPatience);
  Result<std::shared_ptr<const WritableArena>> arena = co_await opening;
  Neighbour& neighbour = neighbours_.at(id);
  if (arena) {
    neighbour.writable = std::move(*arena);
  } else {
    neighbour.writable_refused = true;
    log(LogLevel::info, "node {}: its arena cannot be written to ({}): blocks are sent", id.value,
        arena.error().context);
  }
  if (!stopped_) publish();
  for (Completion* writer : std::exchange(neighbour.writers, {})) writer->finish({});
  --opening_;
  settled_.raise();
}

void MappedNodes::publish() {
  auto made = std::make_shared<ArenaSet>();
  bool any = false;
  for (const auto& [id, neighbour] : neighbours_) {
    if (!neighbour.arena) continue;
    made->add(neighbour.arena, neighbour.writable, neighbour.writable_refused, neighbour.pinned);
    any = true;
  }
  std::shared_ptr<const ArenaSet> set = any ? std::move(made) : nullptr;
  {
    const std::lock_guard lock(mutex_);
    arenas_.swap(set);
    any_.store(any, std::memory_order_relaxed);
  }
  // What was there before goes here: unmapping an arena takes long, and every fetch wants the lock.
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
  if (pinner_) pinner_->stop();
  while (opening_ != 0 || pinning_ != 0) co_await settled_;
  neighbours_.clear();
  publish();
}

}  // namespace membrain
