#include "tools/shard_threads.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "transport/ucx/ucx_fabric.h"

namespace membrain {

namespace {

std::string_view host_of(std::string_view address) {
  return address.substr(0, address.rfind(':'));
}

std::string_view port_of(std::string_view address) {
  return address.substr(address.rfind(':') + 1);
}

}  // namespace

ShardThreads::ShardThreads(std::shared_ptr<UcxContext> context, std::string secret,
                           ShardAddresses addresses)
    : context_(std::move(context)), secret_(std::move(secret)), addresses_(std::move(addresses)) {}

Result<ShardHost::Place> ShardThreads::make_place(ShardId shard) {
  auto room = std::make_unique<Room>(fmt::format("shard {}", shard.value));
  Result<std::unique_ptr<Fabric>> fabric =
      make_ucx_fabric(context_, room->thread.loop(), {secret_, "server"});
  if (!fabric) return fail(fabric.error());
  room->fabric = std::move(*fabric);
  Place place{room->fabric.get(), addresses_.listen};
  if (shard) {
    const std::uint32_t port =
        addresses_.next_port == 0 ? 0 : addresses_.next_port + shard.value - 1;
    place.listen = fmt::format("{}:{}", host_of(addresses_.listen), port);
  }
  rooms_[shard] = std::move(room);
  return place;
}

Address ShardThreads::open_place(ShardId shard, const Address& address) {
  rooms_.at(shard)->thread.start();
  if (addresses_.advertise.empty()) return address;
  if (!shard) return addresses_.advertise;
  return fmt::format("{}:{}", host_of(addresses_.advertise), port_of(address));
}

void ShardThreads::stop() {
  for (const auto& [shard, room] : rooms_) room->thread.stop();
}

}  // namespace membrain
