// Queues of work on a GPU, and marks in them.
#pragma once

#include <memory>
#include <utility>

#include "transport/cuda/device.h"

namespace membrain::cuda {

/// Work of a device that happens in order. It waits for no other stream unless told to: not even
/// for the engine's default one.
///
/// Threads  One at a time.
/// Cost     A few microseconds a call; nothing waits but `synchronize` and the destructor.
class Stream {
 public:
  static Result<Stream> create(std::shared_ptr<const Device> device);
  ~Stream();
  Stream(Stream&& other) noexcept
      : device_(std::move(other.device_)), stream_(std::exchange(other.stream_, nullptr)) {}
  Stream& operator=(Stream&&) = delete;

  /// What follows waits for `event`, which may be another device's, or the engine's.
  Result<> wait(RawEvent event);
  /// Copies between any two kinds of memory. Pageable host memory would make it wait.
  Result<> copy(Address to, Address from, std::size_t bytes);
  /// A kernel of `rows` times `blocks` blocks.
  Result<> launch(Function kernel, std::uint32_t blocks, std::uint32_t rows, std::uint32_t threads,
                  void** arguments);
  /// Calls `call(data)` on a thread of the driver when all before it is done; it must be short and
  /// call nothing of CUDA. Not called any more once the device has failed, which only
  /// `Event::done` tells.
  Result<> then(HostCall call, void* data);
  /// Blocks until all is done.
  Result<> synchronize();

  [[nodiscard]] RawStream raw() const noexcept { return stream_; }
  [[nodiscard]] const Device& device() const noexcept { return *device_; }

 private:
  Stream(std::shared_ptr<const Device> device, RawStream stream) noexcept
      : device_(std::move(device)), stream_(stream) {}

  std::shared_ptr<const Device> device_;
  RawStream stream_;
};

/// True if everything before an event of whomever is done; a failure if it is no event, or the
/// device has failed.
[[nodiscard]] Result<bool> is_done(const Device& device, RawEvent event);

/// A mark in a stream. Threads, cost: as Stream.
class Event {
 public:
  static Result<Event> create(std::shared_ptr<const Device> device);
  ~Event();
  Event(Event&& other) noexcept
      : device_(std::move(other.device_)), event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&&) = delete;

  Result<> record(const Stream& stream);
  /// True if everything before the mark is done; a failure if the device has failed, which it does
  /// for good: nothing is under way on it any more.
  [[nodiscard]] Result<bool> done() const { return is_done(*device_, event_); }

  [[nodiscard]] RawEvent raw() const noexcept { return event_; }

 private:
  Event(std::shared_ptr<const Device> device, RawEvent event) noexcept
      : device_(std::move(device)), event_(event) {}

  std::shared_ptr<const Device> device_;
  RawEvent event_;
};

}  // namespace membrain::cuda
