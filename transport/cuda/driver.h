// NVIDIA's driver, if this machine has one.
#pragma once

#include <memory>
#include <string>

#include "membrain/result.h"
#include "transport/cuda/api.h"

namespace membrain::cuda {

/// The driver's library, loaded and started. It stays loaded until the process ends, as its own
/// threads expect.
///
/// Threads  Any.
class Driver {
 public:
  /// `unavailable` where there is no driver, no device, or a driver without a function that is
  /// needed (older than CUDA 11.8), or whose library does not load: the log says which. `no_gpu`
  /// tells the first two apart. A driver that does not start gives its own name of that as the
  /// context. Takes up to a second, at the first time in a process.
  static Result<std::shared_ptr<const Driver>> load(const std::string& library = "libcuda.so.1");

  [[nodiscard]] const Api& api() const noexcept { return api_; }
  [[nodiscard]] int version() const noexcept { return version_; }  ///< 12040 is CUDA 12.4
  [[nodiscard]] int device_count() const noexcept { return devices_; }
  /// The driver's own name of a status, e.g. "CUDA_ERROR_OUT_OF_MEMORY". Static storage.
  [[nodiscard]] std::string_view name(Status status) const noexcept;

 private:
  Driver() = default;
  Result<> start();

  Api api_{};
  int version_ = 0;
  int devices_ = 0;
};

/// While it lives, calls of this thread spoil no graph that another one captures. CUDA takes every
/// thread's calls for the engine's own otherwise, and lets a capture fail over those that could be
/// unsafe amid one, as asking for an event is (docs/adr/0040-graphs-that-are-captured.md). Nests.
class Relaxed {
 public:
  explicit Relaxed(const Api& api) noexcept
      : api_(api), changed_(api.exchange_capture_mode(&mode_) == kSuccess) {}
  ~Relaxed() {
    if (changed_) api_.exchange_capture_mode(&mode_);
  }
  Relaxed(const Relaxed&) = delete;
  Relaxed& operator=(const Relaxed&) = delete;

 private:
  const Api& api_;
  CaptureMode mode_ = CaptureMode::relaxed;  // then the thread's own, to be given back
  const bool changed_;
};

/// Whether `Driver::load` failed for want of a driver or a GPU, not because one does not work.
[[nodiscard]] inline bool no_gpu(const Error& why) noexcept {
  return why.native == kNoDevice;
}

/// What to do about a driver that does not start. Static storage.
[[nodiscard]] std::string_view cure_of(Status status) noexcept;

/// What a status says to the caller: `out_of_capacity` for memory that is not there, `cancelled`
/// for a driver that is going down with the process, `unavailable` for all that is broken.
[[nodiscard]] Result<> outcome_of(Status status, std::string_view what) noexcept;

}  // namespace membrain::cuda
