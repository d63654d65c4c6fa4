// A GPU's memory in one process, used in another, by NVIDIA's driver alone: the limit of what goes
// between the GPUs of a host's processes. Membrain itself leaves this to UCX.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "bench/gpu_ipc_api.h"
#include "transport/cuda/device.h"

namespace membrain::cuda {

/// `unavailable` if the driver has no such functions, as in a container that forbids them. `memory`
/// is the beginning of an allocation on `device`.
[[nodiscard]] Result<IpcHandle> ipc_handle_of(const std::string& library, const Device& device,
                                              Address memory);

/// Another process's allocation, until this is destroyed. That process must keep it as long.
class IpcMemory {
 public:
  static Result<IpcMemory> open(const std::string& library, std::shared_ptr<const Device> device,
                                const IpcHandle& handle);
  ~IpcMemory();
  IpcMemory(IpcMemory&& other) noexcept
      : device_(std::move(other.device_)),
        api_(other.api_),
        address_(std::exchange(other.address_, 0)) {}
  IpcMemory& operator=(IpcMemory&&) = delete;

  [[nodiscard]] Address address() const noexcept { return address_; }

 private:
  IpcMemory(std::shared_ptr<const Device> device, const IpcApi& api, Address address) noexcept
      : device_(std::move(device)), api_(api), address_(address) {}

  std::shared_ptr<const Device> device_;
  IpcApi api_;
  Address address_;
};

}  // namespace membrain::cuda
