#include "cache/node/node_service.h"

#include <utility>

#include "base/log.h"

namespace membrain {

NodeService::NodeService(Fabric& control, Fabric& data, Arena& arena, NodeConfig config,
                         Windows* windows)
    : arena_(arena),
      config_(std::move(config)),
      blocks_(data, arena, counters_, config_.limits, windows),
      door_(control.loop(), arena),
      links_(control, counters_) {}

Result<> NodeService::start() {
  arena_.begin_life();
  Result<Address> address = blocks_.start(config_.listen, links_.door());
  if (!address) return fail(address.error());
  address_ = std::move(*address);
  LinkConfig link;
  link.server = config_.server;
  link.secret = config_.secret;
  link.host = config_.host;
  link.door = open_door();
  link.zone = config_.zone;
  link.address = config_.advertise.empty() ? address_ : config_.advertise;
  link.node = arena_.node();
  link.incarnation = arena_.incarnation();
  link.capacity_bytes = arena_.capacity_bytes();
  links_.configure(std::move(link), blocks_.door());
  return {};
}

/// Where to knock. Without a door clients fetch as from another host.
std::string NodeService::open_door() {
  if (!config_.mapped || config_.host.empty()) return {};
  if (!config_.door.empty()) return config_.door;
  if (const Result<> opened = door_.open(); !opened) {
    log(LogLevel::debug, "node: no door to its arena: {}", opened.error().context);
  }
  return door_.name();
}

Task<> NodeService::leave() {
  links_.leave();
  co_return;
}

Task<> NodeService::stop() {
  door_.close();
  Task<> stopping = links_.stop();
  co_await stopping;
}

NodeStatus NodeService::status() const {
  const auto read = [](const NodeCounters::Counter& counter) {
    return counter.load(std::memory_order_relaxed);
  };
  NodeStatus status;
  status.node = arena_.node();
  status.incarnation = arena_.incarnation();
  status.epoch = Epoch{read(counters_.epoch)};
  status.shards = read(counters_.shards);
  status.connected_shards = read(counters_.connected);
  status.connected = status.shards > 0 && status.connected_shards == status.shards;
  status.left_shards = read(counters_.left);
  status.alone_blocks = read(counters_.alone);
  status.capacity_bytes = arena_.capacity_bytes();
  status.used_bytes = read(counters_.used_bytes);
  status.free_bytes = read(counters_.free_bytes);
  status.used_slots = read(counters_.used_slots);
  status.stores = read(counters_.stores);
  status.fetches = read(counters_.fetches);
  status.bytes_in = read(counters_.bytes_in);
  status.bytes_out = read(counters_.bytes_out);
  status.freed = read(counters_.freed);
  status.fenced_frees = read(counters_.fenced_frees);
  status.copied_blocks = read(counters_.copied_blocks);
  status.corrupt_slots = read(counters_.corrupt_slots);
  for (std::size_t i = 0; i < kStatusCount; ++i) {
    status.store_items[i] = read(counters_.store_items[i]);
    status.fetch_items[i] = read(counters_.fetch_items[i]);
  }
  return status;
}

Result<> NodeService::check_invariants() const {
  return blocks_.table().check_invariants();
}

void NodeService::for_each_sealed(
    const std::function<void(const wire::SlotEntry&, std::span<const std::byte>)>& see) const {
  blocks_.table().for_each_sealed(see);
}

}  // namespace membrain
