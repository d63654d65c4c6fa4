// A GPU's context on the thread that turns the loop, while UCX works there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "transport/cuda/device.h"
#include "transport/ucx/ucx_fabric.h"

namespace membrain {

/// Threads  The loop's, as UcxSurroundings.
class GpuSurroundings final : public UcxSurroundings {
 public:
  explicit GpuSurroundings(std::shared_ptr<const cuda::Device> gpu) noexcept
      : gpu_(std::move(gpu)) {}
  void enter() noexcept override {
    if (depth_++ == 0) current_.emplace(*gpu_);
  }
  void leave() noexcept override {
    if (--depth_ == 0) current_.reset();
  }

 private:
  const std::shared_ptr<const cuda::Device> gpu_;
  std::optional<cuda::Device::Current> current_;
  std::uint32_t depth_ = 0;
};

}  // namespace membrain
