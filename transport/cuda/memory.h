// Memory that a GPU reaches.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "transport/cuda/device.h"

namespace membrain::cuda {

/// Whose memory an address is. Host memory that is pinned is `host`.
struct Whereabouts {
  enum class Kind : std::uint8_t { host, device, managed } kind = Kind::host;
  int device = -1;  ///< of `device`
};

/// `unavailable` if the driver cannot say. About a microsecond.
[[nodiscard]] Result<Whereabouts> whereabouts(const Driver& driver, const void* memory);

/// Memory of a device. Freeing it waits for the device.
class DeviceBuffer {
 public:
  static Result<DeviceBuffer> allocate(std::shared_ptr<const Device> device, std::size_t bytes);
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : device_(std::move(other.device_)),
        address_(std::exchange(other.address_, 0)),
        bytes_(other.bytes_) {}
  DeviceBuffer& operator=(DeviceBuffer&&) = delete;

  [[nodiscard]] Address address() const noexcept { return address_; }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_; }

 private:
  DeviceBuffer(std::shared_ptr<const Device> device, Address address, std::size_t bytes) noexcept
      : device_(std::move(device)), address_(address), bytes_(bytes) {}

  std::shared_ptr<const Device> device_;
  Address address_;
  std::size_t bytes_;
};

/// Page-locked host memory, for every device: what a GPU copies at full speed without waiting.
class PinnedBuffer {
 public:
  static Result<PinnedBuffer> allocate(std::shared_ptr<const Device> device, std::size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(PinnedBuffer&& other) noexcept
      : device_(std::move(other.device_)), bytes_(std::exchange(other.bytes_, {})) {}
  PinnedBuffer& operator=(PinnedBuffer&&) = delete;

  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] Address address() const noexcept {
    return reinterpret_cast<Address>(bytes_.data());
  }

 private:
  PinnedBuffer(std::shared_ptr<const Device> device, std::span<std::byte> bytes) noexcept
      : device_(std::move(device)), bytes_(bytes) {}

  std::shared_ptr<const Device> device_;
  std::span<std::byte> bytes_;
};

/// Memory of somebody else, page-locked for every device while this lives: a mapped arena.
/// Unlocking waits for the device, and so for kernels of the engine.
///
/// Cost  Milliseconds a GiB. Never on the data path.
class HostRegistration {
 public:
  enum class Access : std::uint8_t { read_write, read_only };
  /// `unavailable` for memory that is mapped read-only on a device that cannot register that.
  static Result<HostRegistration> create(std::shared_ptr<const Device> device,
                                         std::span<std::byte> memory, Access access);
  ~HostRegistration();
  HostRegistration(HostRegistration&& other) noexcept
      : device_(std::move(other.device_)), memory_(std::exchange(other.memory_, nullptr)) {}
  HostRegistration& operator=(HostRegistration&&) = delete;

 private:
  HostRegistration(std::shared_ptr<const Device> device, void* memory) noexcept
      : device_(std::move(device)), memory_(memory) {}

  std::shared_ptr<const Device> device_;
  void* memory_;
};

}  // namespace membrain::cuda
