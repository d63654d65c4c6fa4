// SimFabric: one process's fabric in a simulated network.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "transport/fabric.h"
#include "transport/loop.h"
#include "transport/sim_network.h"

namespace membrain {

/// See SimNetwork, which makes it and holds all that is under way. Destroying one breaks its
/// connections and ends its operations with `peer_lost`; no `connect` or `close` may be under way.
///
/// Threads  The network's.
class SimFabric final : public Fabric, private Source {
 public:
  SimFabric(SimNetwork& network, Loop& loop, std::uint32_t process);
  ~SimFabric() override;
  SimFabric(const SimFabric&) = delete;
  SimFabric& operator=(const SimFabric&) = delete;

  [[nodiscard]] Loop& loop() noexcept override { return loop_; }
  void set_receiver(Receiver& receiver) noexcept override { receiver_ = &receiver; }
  Result<Address> listen(const Address& address) override;
  Task<Result<PeerId>> connect(Address address, TimePoint deadline) override;
  Result<> send(PeerId peer, std::span<const std::byte> frame) override;
  void send(PeerId peer, std::span<const std::byte> frame, std::span<const Segment> payload,
            Completion& done) override;
  void receive(Payload payload, std::span<const Segment> into, Completion& done) override;
  Task<> close(PeerId peer) override;
  Result<std::unique_ptr<Region>> register_memory(std::span<std::byte> memory) override;
  Result<std::unique_ptr<Region>> register_device_memory(std::span<std::byte> memory) override;
  [[nodiscard]] DevicePayloads device_payloads(PeerId peer) const noexcept override;
  [[nodiscard]] std::string_view lane(PeerId peer) const noexcept override;
  [[nodiscard]] std::string route(PeerId) const override { return "simulated"; }
  [[nodiscard]] std::array<std::byte, 32> binding(PeerId peer) const noexcept override;

 private:
  friend class SimNetwork;
  void discard(std::uint64_t payload_id) noexcept override;
  bool progress() override;
  [[nodiscard]] int event_fd() const noexcept override { return -1; }
  [[nodiscard]] bool arm() noexcept override { return arrivals_.empty(); }
  [[nodiscard]] const SimEndName* find(PeerId peer) const noexcept;

  SimNetwork& network_;
  Loop& loop_;
  Receiver* receiver_ = nullptr;
  std::uint32_t process_;
  bool killed_ = false;
  std::uint32_t waiting_ = 0;      ///< coroutines of connect and close
  std::vector<SimEndName> peers_;  ///< by PeerId, less one
  std::vector<SimArrival> arrivals_;
  std::vector<SimArrival> handed_over_;
};

}  // namespace membrain
