// One GPU: its context, and our kernels in it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "transport/cuda/driver.h"

namespace membrain::cuda {

/// What a GPU is. Plain values.
struct DeviceFacts {
  std::string name;
  std::string pci;  ///< e.g. "0000:1b:00.0", as in sysfs
  std::uint64_t memory_bytes = 0;
  int compute = 0;  ///< compute capability, 90 is 9.0
  int multiprocessors = 0;
  bool gpu_direct_rdma = false;         ///< by nvidia-peermem
  bool dma_buf = false;                 ///< by dmabuf
  bool read_only_registration = false;  ///< of host memory that is mapped read-only
};

/// What `device` is. No context is made for it.
[[nodiscard]] Result<DeviceFacts> describe(const Driver& driver, int device);

/// A GPU whose primary context this process holds: the one that CUDA's runtime, and so the engine,
/// uses too.
///
/// Ownership  Everything that lives on the device keeps it.
/// Threads    Any.
class Device {
 public:
  /// `invalid_argument` for no such device, `unavailable` if our kernels do not load: the log says
  /// why. The first use of a GPU in a process takes a few hundred milliseconds.
  static Result<std::shared_ptr<const Device>> open(std::shared_ptr<const Driver> driver,
                                                    int ordinal);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  [[nodiscard]] const Driver& driver() const noexcept { return *driver_; }
  [[nodiscard]] const Api& api() const noexcept { return driver_->api(); }
  [[nodiscard]] int ordinal() const noexcept { return ordinal_; }
  [[nodiscard]] const DeviceFacts& facts() const noexcept { return facts_; }

  struct Kernels {
    Function copy_chunks = nullptr;
    Function hash_chunks = nullptr;
    Function hash_chains = nullptr;
  };
  [[nodiscard]] const Kernels& kernels() const noexcept { return kernels_; }

  /// The device's context on this thread, while it lives, and calls that spoil no capture
  /// (`Relaxed`). Everything that follows in this folder makes it current by itself.
  class Current {
   public:
    explicit Current(const Device& device) noexcept
        : api_(device.api()),
          relaxed_(api_),
          pushed_(api_.context_push(device.context_) == kSuccess) {}
    ~Current() {
      Context popped = nullptr;
      if (pushed_) api_.context_pop(&popped);
    }
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;

   private:
    const Api& api_;
    const Relaxed relaxed_;  // goes last
    const bool pushed_;
  };

 private:
  Device(std::shared_ptr<const Driver> driver, int ordinal)
      : driver_(std::move(driver)), ordinal_(ordinal) {}
  Result<> start();
  Result<> load_kernels();

  std::shared_ptr<const Driver> driver_;
  int ordinal_;
  DeviceFacts facts_;
  Ordinal handle_ = 0;
  Context context_ = nullptr;
  Module module_ = nullptr;
  Kernels kernels_;
};

}  // namespace membrain::cuda
