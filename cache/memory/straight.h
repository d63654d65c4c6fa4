// Payloads that go straight between a network and a GPU's memory: when they may, and where they
// land.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "transport/fabric.h"

namespace membrain {

/// Whether a payload may be received into a GPU's memory. `from_device`: it is known to come from
/// one. Pure.
[[nodiscard]] constexpr bool may_land(DevicePayloads allowed, bool from_device,
                                      bool arrived) noexcept {
  if (arrived) return false;
  return allowed == DevicePayloads::any ||
         (allowed == DevicePayloads::between_devices && from_device);
}

/// Whether a payload may be sent from a GPU's memory. `into_device`: its receiver has promised to
/// receive it into one. Pure.
[[nodiscard]] constexpr bool may_leave(DevicePayloads allowed, bool into_device) noexcept {
  return allowed == DevicePayloads::any ||
         (allowed == DevicePayloads::between_devices && into_device);
}

/// What a lane is called in reports when the bytes did not touch the host's memory: "rdma_gpu".
[[nodiscard]] inline std::string straight_lane(std::string_view lane) {
  return std::string(lane) + "_gpu";
}

/// Room in a staging slot on a GPU, given out from its beginning to payloads as they come: in
/// whichever order, each in one run. What was given out is not used for another one, so nothing
/// that broke off can disturb what came after it.
class DeviceRoom {
 public:
  explicit DeviceRoom(const Segment& memory) noexcept : memory_(memory) {}
  /// Nothing if there is not so much left.
  [[nodiscard]] std::optional<Segment> take(std::uint64_t bytes) noexcept {
    if (bytes > memory_.size - taken_) return std::nullopt;
    const Segment run{memory_.data + taken_, static_cast<std::size_t>(bytes), memory_.region,
                      memory_.kind};
    taken_ += run.size;
    return run;
  }
  [[nodiscard]] std::uint64_t offset_of(const std::byte* data) const noexcept {
    return static_cast<std::uint64_t>(data - memory_.data);
  }

 private:
  const Segment memory_;
  std::size_t taken_ = 0;
};

/// One block that may land on a GPU, and what became of that. What has landed was compared with
/// nothing yet.
struct DeviceSpot {
  DeviceRoom* room = nullptr;
  bool landed = false;
  std::uint64_t at = 0;   ///< bytes into the room's memory
  Checksum wanted;        ///< of all of the block, by the replica that it came from
  std::string_view lane;  ///< that brought it. Static storage
};

}  // namespace membrain
