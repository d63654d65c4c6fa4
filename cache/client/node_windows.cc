#include "cache/client/node_windows.h"

#include <iterator>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "protocol/arena_header.h"
#include "protocol/seal.h"

namespace membrain {

namespace {

constexpr Duration kPatience = std::chrono::seconds(2);

/// The arena's parts lie in the window, one behind the other.
bool sound(const wire::WindowOpened& told, std::uint64_t size) noexcept {
  const std::uint64_t capacity = told.capacity_bytes;
  if (capacity > size || told.slots_offset > size - capacity) return false;
  const std::uint64_t seals = capacity / kPageBytes * sizeof(Seal);
  return told.seals_offset <= told.slots_offset && seals <= told.slots_offset - told.seals_offset;
}

}  // namespace

bool may_have_window(std::string_view lane) noexcept {
  return lane == "rdma" || lane == "sim";
}

bool NodeWindow::reaches(const Location& at) const noexcept {
  const std::uint64_t offset = std::uint64_t{at.slot.value} * kPageBytes;
  return at.node == node && at.incarnation == life && offset < capacity_bytes &&
         at.length <= capacity_bytes - offset;
}

NodeWindows::NodeWindows(NodeLinks& links, Windows& windows)
    : links_(links), windows_(windows), ended_(links.loop().ready()) {}

NodeWindows::~NodeWindows() {
  check(entries_.empty() && running_ == 0, "NodeWindows were destroyed before they were stopped");
}

std::shared_ptr<const NodeWindow> NodeWindows::of(NodeId node, const wire::SessionProof& proof) {
  const PeerId peer = links_.connected(node);
  if (!peer || stopping_ || !may_have_window(links_.fabric().lane(peer))) return nullptr;
  const auto known = entries_.find(node);
  if (known == entries_.end() || known->second.asked_on != peer) forget_the_gone();
  Entry& entry = entries_[node];
  if (entry.window && !entry.window->remote->usable()) let_go(entry);
  if (entry.asked_on != peer) {
    entry.asked_on = peer;
    ++running_;
    links_.loop().spawn(ask(node, peer, proof));
  }
  return entry.window;
}

Task<> NodeWindows::ask(NodeId node, PeerId peer, wire::SessionProof proof) {
  const TimePoint deadline = links_.loop().now() + kPatience;
  Task<Result<wire::WindowOpened>> asking =
      links_.calls().call<wire::WindowOpened>(peer, wire::OpenWindow{proof}, deadline);
  const Result<wire::WindowOpened> told = co_await asking;
  const auto entry = entries_.find(node);
  if (told && !stopping_ && entry != entries_.end() && entry->second.asked_on == peer) {
    Result<std::unique_ptr<RemoteWindow>> entered = windows_.enter(told->window);
    if (entered) {
      auto window = std::make_shared<NodeWindow>();
      window->node = node;
      window->life = told->incarnation;
      window->capacity_bytes = told->capacity_bytes;
      window->seals_offset = told->seals_offset;
      window->slots_offset = told->slots_offset;
      window->remote = std::move(*entered);
      entry->second.window = std::move(window);
      if (!sound(*told, entry->second.window->remote->size_bytes())) let_go(entry->second);
    } else {
      log(LogLevel::warn, "node {}: its window cannot be entered: {}", node.value,
          entered.error().context);
    }
  }
  --running_;
  ended_.raise();
}

void NodeWindows::let_go(Entry& entry) {
  ++running_;
  links_.loop().spawn(close(std::exchange(entry.window, nullptr)));
}

/// Of nodes whose connection has gone, and that may never be asked again.
void NodeWindows::forget_the_gone() {
  for (auto at = entries_.begin(); at != entries_.end();) {
    const bool gone = links_.connected(at->first) != at->second.asked_on;
    if (gone && at->second.window) let_go(at->second);
    at = gone ? entries_.erase(at) : std::next(at);
  }
}

void NodeWindows::abandon(const NodeWindow& window) {
  const auto entry = entries_.find(window.node);
  if (entry != entries_.end() && entry->second.window.get() == &window) let_go(entry->second);
}

/// Whoever still reads has it until his reads have ended, which they do with the closing.
Task<> NodeWindows::close(std::shared_ptr<NodeWindow> window) {
  Task<> closing = window->remote->close();
  co_await closing;
  --running_;
  ended_.raise();
}

Task<> NodeWindows::stop() {
  stopping_ = true;
  for (auto& [node, entry] : entries_) {
    if (entry.window) let_go(entry);
  }
  while (running_ != 0) co_await ended_;
  entries_.clear();
}

}  // namespace membrain
