#include "cache/client/node_links.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace membrain {

namespace {

bool same_life(const wire::NodeEntry& a, const wire::NodeEntry& b) noexcept {
  return a.incarnation == b.incarnation && a.address == b.address;
}

}  // namespace

NodeLinks::NodeLinks(Fabric& data, std::string host, Duration connect_timeout)
    : fabric_(data),
      host_(std::move(host)),
      salt_(std::hash<std::string>{}(host_)),
      connect_timeout_(connect_timeout),
      calls_(data),
      stop_signal_(data.loop().ready()) {
  fabric_.set_receiver(*this);
}

NodeLinks::~NodeLinks() {
  check(exchanges_.empty() && running_ == 0, "NodeLinks were destroyed with work under way");
}

void NodeLinks::update(const std::vector<wire::NodeEntry>& nodes) {
  for (const wire::NodeEntry& entry : nodes) {
    const auto found = links_.find(entry.node);
    if (found == links_.end()) continue;
    const Link& link = found->second;
    const bool reborn = !same_life(link.entry, entry);
    if (reborn && link.peer) abandon(link.peer);
    const bool was_alive = link.listed && link.entry.alive;
    if (reborn || (entry.alive && !was_alive)) lanes_.forget(entry.node);
  }
  for (auto& [id, link] : links_) link.listed = false;
  for (const wire::NodeEntry& entry : nodes) {
    Link& link = links_[entry.node];
    link.entry = entry;
    link.listed = true;
  }
  if (links_.size() <= wire::kMaxNodes) return;
  std::erase_if(links_, [](const auto& item) {
    const Link& link = item.second;
    return !link.listed && !link.peer && !link.connecting && link.waiting.empty();
  });
}

bool NodeLinks::same_host(const Link& link) const noexcept {
  return !host_.empty() && link.entry.host == host_;
}

bool NodeLinks::doubted(NodeId node) const noexcept {
  const LaneModel* const lane = lanes_.find(node);
  return lane != nullptr && lane->breaker().doubted(fabric_.loop().now());
}

/// A lane that is doubted is of use while it has a connection.
bool NodeLinks::open_for(NodeId node, const Link& link) const noexcept {
  const LaneModel* const lane = lanes_.find(node);
  if (lane == nullptr) return true;
  const TimePoint now = fabric_.loop().now();
  const bool connects = link.peer || link.connecting || !lane->breaker().doubted(now);
  return connects && lane->breaker().admits(now);
}

bool NodeLinks::takes_blocks(NodeId node, const Link& link) const noexcept {
  return link.listed && link.entry.alive && link.entry.tier == Tier::host && open_for(node, link);
}

SourceView NodeLinks::source(NodeId node, std::uint64_t bytes) const noexcept {
  const auto found = links_.find(node);
  if (found == links_.end()) return {.node = {node, false, false}};
  const Link& link = found->second;
  const bool dead = link.listed && !link.entry.alive;
  const TimePoint now = fabric_.loop().now();
  return {.node = {node, !dead, same_host(link), source_weight(link.entry.load_bytes)},
          .avoided = !open_for(node, link),
          .doubted = doubted(node),
          .expected = lanes_.expected(node, bytes, now).value_or(Duration::zero())};
}

std::vector<NodeView> NodeLinks::places() const {
  const bool choosy = std::any_of(links_.begin(), links_.end(), [this](const auto& item) {
    return takes_blocks(item.first, item.second) && !doubted(item.first);
  });
  std::vector<NodeView> views;
  views.reserve(links_.size());
  for (const auto& [id, link] : links_) {
    const wire::NodeEntry& at = link.entry;
    const bool usable = takes_blocks(id, link) && !(choosy && doubted(id));
    views.push_back({id, usable, same_host(link),
                     place_weight(at.capacity_bytes, at.free_bytes, at.load_bytes)});
  }
  return views;
}

bool NodeLinks::any_place() const noexcept {
  return std::any_of(links_.begin(), links_.end(),
                     [this](const auto& item) { return takes_blocks(item.first, item.second); });
}

std::optional<Result<PeerId>> NodeLinks::reach(NodeId node, Signal& signal) {
  const auto gone = [] { return fail(Errc::peer_lost, "the node cannot be reached"); };
  const auto found = links_.find(node);
  if (found == links_.end() || stopping_) return Result<PeerId>(gone());
  Link& link = found->second;
  const LaneModel* const lane = lanes_.find(node);
  const bool may_connect = lane == nullptr || loop().now() >= lane->breaker().retry_at();
  if (!link.peer && !link.connecting && may_connect) {
    link.connecting = true;
    ++running_;
    loop().spawn(connect(node));
  }
  if (link.peer) return Result<PeerId>(link.peer);
  if (!link.connecting) return Result<PeerId>(gone());
  if (std::find(link.waiting.begin(), link.waiting.end(), &signal) == link.waiting.end()) {
    link.waiting.push_back(&signal);
  }
  return std::nullopt;
}

void NodeLinks::forget(NodeId node, const Signal& signal) noexcept {
  const auto found = links_.find(node);
  if (found != links_.end()) std::erase(found->second.waiting, &signal);
}

void NodeLinks::wake(Link& link) noexcept {
  for (Signal* waiting : std::exchange(link.waiting, {})) waiting->raise();
}

/// The link stays while it is `connecting`.
Task<> NodeLinks::connect(NodeId node) {
  const wire::NodeEntry entry = links_[node].entry;
  const TimePoint deadline = loop().now() + connect_timeout_;
  Task<Result<PeerId>> connecting = fabric_.connect(entry.address, deadline);
  const Result<PeerId> peer = co_await connecting;
  Link& link = links_[node];
  link.connecting = false;
  const bool moved = !same_life(link.entry, entry);
  if (peer && !moved && !stopping_) {
    link.peer = *peer;
    peers_.emplace(peer->value, node);
    lanes_.lane(node).breaker().reachable(loop().now());
  } else if (peer) {
    loop().spawn(close(*peer));
  } else {
    if (!moved) lanes_.lost(node, loop().now());
    log(LogLevel::warn, "node {} at {} cannot be reached: {}", node.value, entry.address,
        to_string(peer.error().code));
  }
  wake(link);
  --running_;
  stop_signal_.raise();
}

PeerId NodeLinks::connected(NodeId node) const noexcept {
  const auto found = links_.find(node);
  return found != links_.end() ? found->second.peer : PeerId{};
}

void NodeLinks::attach(OpId op, PeerId peer, Exchange& exchange) {
  exchanges_.emplace(op.value, Attached{peer, &exchange});
}

/// Forgets the connection and tells its exchanges. They may detach meanwhile.
void NodeLinks::lose(PeerId peer) {
  const auto found = peers_.find(peer.value);
  if (found == peers_.end()) return;
  const NodeId node = found->second;
  peers_.erase(found);
  links_[node].peer = PeerId{};
  lanes_.lost(node, loop().now());
  calls_.on_lost(peer);
  std::vector<Exchange*> told;
  for (const auto& [op, attached] : exchanges_) {
    if (attached.peer == peer) told.push_back(attached.exchange);
  }
  for (Exchange* exchange : told) exchange->on_peer_lost();
}

Task<> NodeLinks::close(PeerId peer) {
  ++running_;
  Task<> closed = fabric_.close(peer);
  co_await closed;
  --running_;
  stop_signal_.raise();
}

void NodeLinks::abandon(PeerId peer) {
  if (peers_.find(peer.value) == peers_.end()) return;  // lost, or being closed already
  lose(peer);
  loop().spawn(close(peer));
}

void NodeLinks::abandon_lane(std::string_view lane) {
  std::vector<PeerId> over;
  for (const auto& [id, link] : links_) {
    if (link.peer && fabric_.lane(link.peer) == lane) over.push_back(link.peer);
  }
  for (const PeerId peer : over) abandon(peer);
}

Task<> NodeLinks::stop() {
  stopping_ = true;
  calls_.cancel_all();
  std::vector<PeerId> open;
  for (const auto& [id, link] : links_) {
    if (link.peer) open.push_back(link.peer);
  }
  for (const PeerId peer : open) abandon(peer);
  while (running_ != 0) co_await stop_signal_;
}

void NodeLinks::on_message(PeerId peer, std::span<const std::byte> bytes, Payload payload) {
  if (peers_.find(peer.value) == peers_.end()) return;
  const Result<wire::Frame> frame = wire::read_frame(bytes);
  if (!frame) {
    log(LogLevel::warn, "a node sent what is no frame: closed");
    abandon(peer);
    return;
  }
  if (calls_.on_frame(peer, *frame)) return;
  const auto found = exchanges_.find(frame->header.op.value);
  if (found == exchanges_.end() || found->second.peer != peer) return;  // late: dropped
  found->second.exchange->on_frame(*frame, std::move(payload));
}

void NodeLinks::on_lost(PeerId peer, const Error&) {
  lose(peer);
}

}  // namespace membrain
