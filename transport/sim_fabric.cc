#include "transport/sim_fabric.h"

#include <utility>

#include "base/check.h"

namespace membrain {

namespace {

class SimRegion final : public Region {
 public:
  explicit SimRegion(std::span<std::byte> memory) noexcept : memory_(memory) {}
  [[nodiscard]] std::span<std::byte> memory() const noexcept override { return memory_; }

 private:
  std::span<std::byte> memory_;
};

std::uint64_t total(std::span<const Segment> segments) noexcept {
  std::uint64_t bytes = 0;
  for (const Segment& segment : segments) bytes += segment.size;
  return bytes;
}

}  // namespace

SimFabric::SimFabric(SimNetwork& network, Loop& loop, std::uint32_t process)
    : network_(network), loop_(loop), process_(process) {
  loop_.add_source(*this);
}

SimFabric::~SimFabric() {
  check(waiting_ == 0, "a fabric was destroyed under a connect or a close");
  loop_.remove_source(*this);
  network_.leave(*this);
}

const SimEndName* SimFabric::find(PeerId peer) const noexcept {
  return peer.value == 0 || peer.value > peers_.size() ? nullptr : &peers_[peer.value - 1];
}

Result<Address> SimFabric::listen(const Address& address) {
  return network_.listen(*this, address);
}

Task<Result<PeerId>> SimFabric::connect(Address address, TimePoint deadline) {
  ++waiting_;
  Completion settled(loop_.ready());
  const SimName attempt = network_.start_connect(*this, std::move(address), deadline, settled);
  const Result<> outcome = co_await settled;
  const PeerId peer = network_.end_connect(attempt);
  --waiting_;
  if (!outcome) co_return fail(outcome.error());
  co_return peer;
}

Result<> SimFabric::send(PeerId peer, std::span<const std::byte> frame) {
  if (frame.size() > kMaxFrameBytes) return fail(Errc::invalid_argument, "frame too long");
  const SimEndName* end = find(peer);
  if (end == nullptr) return fail(Errc::peer_lost, "unknown peer");
  return network_.send(*end, frame);
}

void SimFabric::send(PeerId peer, std::span<const std::byte> frame,
                     std::span<const Segment> payload, Completion& done) {
  if (frame.size() > kMaxFrameWithPayloadBytes || payload.size() > kMaxSegments) {
    return done.finish(fail(Errc::invalid_argument, "frame or list of segments too long"));
  }
  const std::uint64_t bytes = total(payload);
  if (bytes == 0) return done.finish(send(peer, frame));
  const SimEndName* end = find(peer);
  if (end == nullptr) return done.finish(fail(Errc::peer_lost, "unknown peer"));
  network_.check_kinds(payload);
  network_.send(*end, frame, payload, bytes, done);
}

void SimFabric::receive(Payload payload, std::span<const Segment> into, Completion& done) {
  check(total(into) == payload.size(), "a payload is received whole");
  check(into.size() <= kMaxSegments, "too many segments to receive into");
  if (payload.size() == 0) return done.finish({});
  network_.check_kinds(into);
  check(!payload.arrived() || into.front().kind == MemoryKind::host,
        "what has arrived is received into the host's memory");
  network_.receive(payload.release(), into, done);
}

void SimFabric::discard(std::uint64_t payload_id) noexcept {
  network_.discard(payload_id);
}

Task<> SimFabric::close(PeerId peer) {
  const SimEndName* end = find(peer);
  if (end == nullptr) co_return;
  Completion quiet(loop_.ready());
  if (!network_.close(*end, quiet)) quiet.finish({});
  ++waiting_;
  const Result<> closed = co_await quiet;
  --waiting_;
  check(closed.has_value(), "closing cannot fail");
}

Result<std::unique_ptr<Region>> SimFabric::register_memory(std::span<std::byte> memory) {
  if (memory.empty()) return fail(Errc::invalid_argument, "an empty region");
  return std::make_unique<SimRegion>(memory);
}

Result<std::unique_ptr<Region>> SimFabric::register_device_memory(std::span<std::byte> memory) {
  return register_memory(memory);
}

DevicePayloads SimFabric::device_payloads(PeerId peer) const noexcept {
  return find(peer) == nullptr ? DevicePayloads::none : network_.devices_.payloads;
}

std::string_view SimFabric::lane(PeerId) const noexcept {
  return "sim";
}

std::array<std::byte, 32> SimFabric::binding(PeerId peer) const noexcept {
  const SimEndName* end = find(peer);
  return end == nullptr ? std::array<std::byte, 32>{} : network_.links_[end->link].binding;
}

bool SimFabric::progress() {
  if (arrivals_.empty()) return false;
  handed_over_.swap(arrivals_);
  network_.arrivals_ -= handed_over_.size();
  for (const SimArrival& arrival : handed_over_) {
    if (arrival.lost) {
      network_.hand_over_loss(arrival.end);
    } else {
      network_.hand_over(arrival.message);
    }
  }
  handed_over_.clear();
  return true;
}

}  // namespace membrain
