#include "transport/cuda/stream.h"

namespace membrain::cuda {

Result<Stream> Stream::create(std::shared_ptr<const Device> device) {
  const Device::Current current(*device);
  RawStream stream = nullptr;
  const Status got = device->api().stream_create(&stream, kStreamNonBlocking);
  if (const Result<> made = outcome_of(got, "cuStreamCreate"); !made) return fail(made.error());
  return Stream(std::move(device), stream);
}

Stream::~Stream() {
  if (stream_ == nullptr) return;
  const Device::Current current(*device_);
  device_->api().stream_synchronize(stream_);
  device_->api().stream_destroy(stream_);
}

Result<> Stream::wait(RawEvent event) {
  const Device::Current current(*device_);
  return outcome_of(device_->api().stream_wait(stream_, event, 0), "cuStreamWaitEvent");
}

Result<> Stream::copy(Address to, Address from, std::size_t bytes) {
  const Device::Current current(*device_);
  return outcome_of(device_->api().copy(to, from, bytes, stream_), "cuMemcpyAsync");
}

Result<> Stream::launch(Function kernel, std::uint32_t blocks, std::uint32_t rows,
                        std::uint32_t threads, void** arguments) {
  const Device::Current current(*device_);
  return outcome_of(
      device_->api().launch(kernel, blocks, rows, 1, threads, 1, 1, 0, stream_, arguments, nullptr),
      "cuLaunchKernel");
}

Result<> Stream::then(HostCall call, void* data) {
  const Device::Current current(*device_);
  return outcome_of(device_->api().stream_host_call(stream_, call, data), "cuLaunchHostFunc");
}

Result<> Stream::synchronize() {
  const Device::Current current(*device_);
  return outcome_of(device_->api().stream_synchronize(stream_), "cuStreamSynchronize");
}

Result<Event> Event::create(std::shared_ptr<const Device> device) {
  const Device::Current current(*device);
  RawEvent event = nullptr;
  const Status got = device->api().event_create(&event, kEventDisableTiming);
  if (const Result<> made = outcome_of(got, "cuEventCreate"); !made) return fail(made.error());
  return Event(std::move(device), event);
}

Event::~Event() {
  if (event_ == nullptr) return;
  const Device::Current current(*device_);
  device_->api().event_destroy(event_);
}

Result<> Event::record(const Stream& stream) {
  const Device::Current current(*device_);
  return outcome_of(device_->api().event_record(event_, stream.raw()), "cuEventRecord");
}

Result<bool> is_done(const Device& device, RawEvent event) {
  const Device::Current current(device);
  const Status got = device.api().event_query(event);
  if (got == kNotReady) return false;
  if (const Result<> fine = outcome_of(got, "cuEventQuery"); !fine) return fail(fine.error());
  return true;
}

}  // namespace membrain::cuda
