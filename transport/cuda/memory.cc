#include "transport/cuda/memory.h"

#include <array>

namespace membrain::cuda {

Result<Whereabouts> whereabouts(const Driver& driver, const void* memory) {
  std::uint32_t type = 0;
  std::uint32_t managed = 0;
  std::int32_t device = -1;
  std::array which{PointerAttribute::memory_type, PointerAttribute::is_managed,
                   PointerAttribute::device_ordinal};
  std::array<void*, 3> values{&type, &managed, &device};
  const Relaxed relaxed(driver.api());
  const Status got = driver.api().pointer_attributes(which.size(), which.data(), values.data(),
                                                     reinterpret_cast<Address>(memory));
  if (const Result<> known = outcome_of(got, "cuPointerGetAttributes"); !known) {
    return fail(known.error());
  }
  using Kind = Whereabouts::Kind;
  if (managed != 0) return Whereabouts{.kind = Kind::managed};
  if (type == kMemoryDevice) return Whereabouts{.kind = Kind::device, .device = device};
  return Whereabouts{};
}

Result<DeviceBuffer> DeviceBuffer::allocate(std::shared_ptr<const Device> device,
                                            std::size_t bytes) {
  const Device::Current current(*device);
  Address address = 0;
  const Status got = device->api().allocate(&address, bytes);
  if (const Result<> made = outcome_of(got, "cuMemAlloc"); !made) return fail(made.error());
  return DeviceBuffer(std::move(device), address, bytes);
}

DeviceBuffer::~DeviceBuffer() {
  if (address_ == 0) return;
  const Device::Current current(*device_);
  device_->api().free(address_);
}

Result<PinnedBuffer> PinnedBuffer::allocate(std::shared_ptr<const Device> device,
                                            std::size_t bytes) {
  const Device::Current current(*device);
  void* memory = nullptr;
  const Status got = device->api().allocate_host(&memory, bytes, kHostPortable);
  if (const Result<> made = outcome_of(got, "cuMemHostAlloc"); !made) return fail(made.error());
  return PinnedBuffer(std::move(device), {static_cast<std::byte*>(memory), bytes});
}

PinnedBuffer::~PinnedBuffer() {
  if (bytes_.data() == nullptr) return;
  const Device::Current current(*device_);
  device_->api().free_host(bytes_.data());
}

Result<HostRegistration> HostRegistration::create(std::shared_ptr<const Device> device,
                                                  std::span<std::byte> memory, Access access) {
  const bool read_only = access == Access::read_only;
  if (read_only && !device->facts().read_only_registration) {
    return fail(Errc::unavailable, "this GPU cannot register memory that is mapped read-only");
  }
  const Device::Current current(*device);
  const std::uint32_t flags = kHostPortable | (read_only ? kHostRegisterReadOnly : 0);
  const Status got = device->api().register_host(memory.data(), memory.size(), flags);
  if (const Result<> made = outcome_of(got, "cuMemHostRegister"); !made) {
    return fail(made.error());
  }
  return HostRegistration(std::move(device), memory.data());
}

HostRegistration::~HostRegistration() {
  if (memory_ == nullptr) return;
  const Device::Current current(*device_);
  device_->api().unregister_host(memory_);
}

}  // namespace membrain::cuda
