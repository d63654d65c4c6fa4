// A fabric that refuses to send what a test says.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "protocol/frame.h"
#include "protocol/messages.h"
#include "transport/fabric.h"

namespace membrain::client_test {

/// Another fabric, but for frames that `refuses` is true of: there is no room for these.
class ReluctantFabric final : public Fabric {
 public:
  using Refuses = std::function<bool(std::span<const std::byte> frame)>;

  ReluctantFabric(std::unique_ptr<Fabric> real, Refuses refuses)
      : real_(std::move(real)), refuses_(std::move(refuses)) {}

  Loop& loop() noexcept override { return real_->loop(); }
  void set_receiver(Receiver& receiver) noexcept override { real_->set_receiver(receiver); }
  Result<Address> listen(const Address& address) override { return real_->listen(address); }
  Task<Result<PeerId>> connect(Address address, TimePoint deadline) override {
    return real_->connect(std::move(address), deadline);
  }
  Result<> send(PeerId peer, std::span<const std::byte> frame) override {
    if (refuses_(frame)) return fail(Errc::out_of_capacity, "there is no room");
    return real_->send(peer, frame);
  }
  void send(PeerId peer, std::span<const std::byte> frame, std::span<const Segment> payload,
            Completion& done) override {
    real_->send(peer, frame, payload, done);
  }
  void receive(Payload payload, std::span<const Segment> into, Completion& done) override {
    real_->receive(std::move(payload), into, done);
  }
  Task<> close(PeerId peer) override { return real_->close(peer); }
  Result<std::unique_ptr<Region>> register_memory(std::span<std::byte> memory) override {
    return real_->register_memory(memory);
  }
  std::string_view lane(PeerId peer) const noexcept override { return real_->lane(peer); }
  std::string route(PeerId peer) const override { return real_->route(peer); }
  std::array<std::byte, 32> binding(PeerId peer) const noexcept override {
    return real_->binding(peer);
  }

 private:
  void discard(std::uint64_t) noexcept override {}  // payloads are the real one's

  std::unique_ptr<Fabric> real_;
  Refuses refuses_;
};

/// The type of a frame that is to be sent.
inline wire::Type type_of(std::span<const std::byte> frame) {
  return wire::read_frame(frame).value().header.type;
}

}  // namespace membrain::client_test
