// Ports of RDMA devices that come and go, told by the kernel at once.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "transport/loop.h"

namespace membrain::verbs {

struct PortEvent {
  std::string device;  ///< e.g. "mlx5_0"
  int port = 0;        ///< 0: all of the device, which has failed for good
  bool up = false;
};

/// Watches every RDMA device that can be opened.
///
/// Ownership  The loop outlives it.
/// Threads    The loop's, or before it runs.
/// Cost       An open device each; nothing until something happens.
class PortEvents {
 public:
  using Told = std::function<void(const PortEvent&)>;

  /// Null where there is nothing to watch: no device, none that may be opened, or a build without
  /// libibverbs. `told` must not destroy it.
  [[nodiscard]] static std::unique_ptr<PortEvents> watch(Loop& loop, Told told);
  virtual ~PortEvents() = default;
  PortEvents(const PortEvents&) = delete;
  PortEvents& operator=(const PortEvents&) = delete;

  [[nodiscard]] virtual std::size_t device_count() const noexcept = 0;

 protected:
  PortEvents() = default;
};

}  // namespace membrain::verbs
