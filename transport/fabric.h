// Fabric: the only way in which processes of a cluster talk. Implemented over UCX and by the
// simulator.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "membrain/result.h"
#include "transport/completion.h"
#include "transport/loop.h"
#include "transport/task.h"

namespace membrain {

/// One connection, as this process numbers it: never reused by a fabric. Zero is none.
struct PeerId {
  std::uint64_t value = 0;
  constexpr explicit operator bool() const noexcept { return value != 0; }
  constexpr auto operator<=>(const PeerId&) const = default;
};

/// Where a process takes first contact: "host:port" (the simulator: any name).
using Address = std::string;

/// Whose memory a payload lies in, at one end.
enum class MemoryKind : std::uint8_t {
  host,
  cuda,  ///< of an NVIDIA GPU, whose context is current on the loop's thread
};

/// Which payloads of a connection may lie in a GPU's memory at this end, untouched by the host.
enum class DevicePayloads : std::uint8_t {
  none,
  between_devices,  ///< those that lie in a GPU's memory at the other end too
  any,
};

/// Memory that a fabric has registered: pieces inside it need no look-up on the data path.
///
/// Ownership  The memory belongs to the caller and outlives the region; the region owns only the
///            registration.
/// Threads    Immutable after creation; any thread may read it.
/// Cost       Creation pins pages: milliseconds per GiB. Never on the data path.
class Region {
 public:
  virtual ~Region() = default;
  [[nodiscard]] virtual std::span<std::byte> memory() const noexcept = 0;
};

/// A run of memory to send from or receive into. `region`, if given, covers it.
struct Segment {
  std::byte* data = nullptr;
  std::size_t size = 0;  ///< bytes
  const Region* region = nullptr;
  MemoryKind kind = MemoryKind::host;
};

class Fabric;

/// The bulk bytes of a message that has arrived but was not yet received: the peer still holds
/// them. Received (`Fabric::receive`) or, when destroyed, discarded.
class Payload {
 public:
  Payload() = default;
  Payload(Fabric& fabric, std::uint64_t id, std::uint64_t size, bool arrived = false) noexcept
      : fabric_(&fabric), id_(id), size_(size), arrived_(arrived) {}
  Payload(Payload&& other) noexcept
      : fabric_(std::exchange(other.fabric_, nullptr)),
        id_(other.id_),
        size_(other.size_),
        arrived_(other.arrived_) {}
  Payload& operator=(Payload&& other) noexcept {
    std::swap(fabric_, other.fabric_);
    std::swap(id_, other.id_);
    std::swap(size_, other.size_);
    std::swap(arrived_, other.arrived_);
    return *this;
  }
  ~Payload();

  [[nodiscard]] std::uint64_t size() const noexcept { return fabric_ ? size_ : 0; }  ///< bytes
  /// The bytes came with their message, and lie in the host's memory: they can be received there
  /// alone. Else they are still with the sender.
  [[nodiscard]] bool arrived() const noexcept { return arrived_; }
  /// For fabrics: gives up the right to discard.
  [[nodiscard]] std::uint64_t release() noexcept {
    fabric_ = nullptr;
    return id_;
  }

 private:
  Fabric* fabric_ = nullptr;
  std::uint64_t id_ = 0;
  std::uint64_t size_ = 0;
  bool arrived_ = false;
};

/// Who is told what arrives. Called on the loop's thread, from `Source::progress`, never inside a
/// UCX callback.
class Receiver {
 public:
  /// A message from `peer`. `frame` is valid during the call; `payload` may be kept and received
  /// later.
  virtual void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) = 0;
  /// The connection is gone and quiet: every operation on it has been completed. Once per peer, not
  /// after `close`.
  virtual void on_lost(PeerId peer, const Error& why) = 0;

 protected:
  ~Receiver() = default;
};

/// Connections, messages with an optional payload, registered memory. One fabric belongs to one
/// loop.
///
/// A message is a small *frame* (what is meant) and an optional *payload* (bulk bytes, straight
/// from the sender's memory into the receiver's). Frames of one connection arrive in order and
/// once, or the connection is lost; only the simulator, when told to, loses, repeats and reorders
/// them, and every protocol above must bear that.
///
/// Threads  The loop's thread only.
/// Errors   An operation on an unknown or lost peer ends with `peer_lost`.
class Fabric {
 public:
  static constexpr std::size_t kMaxFrameBytes = 256 * 1024;  ///< without a payload
  /// beside a payload (UCX: an AM header)
  static constexpr std::size_t kMaxFrameWithPayloadBytes = 4096;
  static constexpr std::size_t kMaxSegments = 4096;  ///< of one send or receive

  virtual ~Fabric() = default;

  [[nodiscard]] virtual Loop& loop() noexcept = 0;
  /// Before the first connection.
  virtual void set_receiver(Receiver& receiver) noexcept = 0;

  /// Takes first contacts at `address` (port 0: any); returns the address with the real port.
  virtual Result<Address> listen(const Address& address) = 0;

  /// First contact, both proofs, exchange of worker addresses. `unavailable` if nobody answers,
  /// `denied` if the proof fails, `timed_out` at the deadline.
  virtual Task<Result<PeerId>> connect(Address address, TimePoint deadline) = 0;

  /// Sends a frame; it is copied before the call returns. What cannot be delivered shows as
  /// `on_lost`.
  virtual Result<> send(PeerId peer, std::span<const std::byte> frame) = 0;

  /// Sends a frame (copied; at most kMaxFrameWithPayloadBytes) with the concatenation of `payload`.
  /// `done` finishes when the payload's memory is the caller's again, with its fate as far as the
  /// sender knows it. The array of segments itself is copied.
  virtual void send(PeerId peer, std::span<const std::byte> frame, std::span<const Segment> payload,
                    Completion& done) = 0;

  /// Receives a payload into the concatenation of `into`, whose sizes add up to the payload's.
  /// `done` finishes when every byte has landed or none can land any more. The array of segments
  /// itself is copied.
  ///
  /// In both directions: a payload in device memory is one run of it, on a connection that allows
  /// that (`device_payloads`). One that is sent from there is never there before it is received.
  virtual void receive(Payload payload, std::span<const Segment> into, Completion& done) = 0;

  /// Closes: no new messages either way; ends when every operation on `peer` has been completed and
  /// nothing of it can land any more. `on_lost` is not called for it.
  virtual Task<> close(PeerId peer) = 0;

  /// Registers memory. `out_of_capacity` when the memory lock limit is hit.
  virtual Result<std::unique_ptr<Region>> register_memory(std::span<std::byte> memory) = 0;
  /// The same of a GPU's memory. `unavailable` where no payload ever lies there.
  virtual Result<std::unique_ptr<Region>> register_device_memory(std::span<std::byte>) {
    return fail(Errc::unavailable, "a fabric that knows no GPU memory");
  }

  /// What may be sent from, and received into, device memory over this connection. It never changes
  /// while that lasts; `none` for an unknown peer.
  [[nodiscard]] virtual DevicePayloads device_payloads(PeerId) const noexcept {
    return DevicePayloads::none;
  }

  /// Which lane carries bulk bytes to and from `peer`: "tcp", "shm", "rdma", "sim". Static storage.
  [[nodiscard]] virtual std::string_view lane(PeerId peer) const noexcept = 0;
  /// How `peer` is really reached, in the transport's own words, for people: "posix/memory; short
  /// to 93 B, bcopy to 8,256 B, then rndv". Slow.
  [[nodiscard]] virtual std::string route(PeerId peer) const = 0;
  /// 32 bytes that both ends of this connection, and nobody else, know: proofs are bound to it.
  [[nodiscard]] virtual std::array<std::byte, 32> binding(PeerId peer) const noexcept = 0;

 protected:
  friend class Payload;
  virtual void discard(std::uint64_t payload_id) noexcept = 0;
};

inline Payload::~Payload() {
  if (fabric_ != nullptr) fabric_->discard(id_);
}

}  // namespace membrain
