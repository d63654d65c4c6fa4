#include "transport/cuda/device.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/log.h"
#include "transport/cuda/kernel_image.h"

namespace membrain::cuda {

namespace {

/// sysfs writes addresses in small letters.
std::string in_small_letters(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// 0 for what this driver does not know.
int attribute(const Api& api, Ordinal device, DeviceAttribute which) noexcept {
  std::int32_t value = 0;
  return api.device_attribute(&value, which, device) == kSuccess ? value : 0;
}

}  // namespace

Result<DeviceFacts> describe(const Driver& driver, int device) {
  const Api& api = driver.api();
  Ordinal handle = 0;
  if (const Result<> found = outcome_of(api.device(&handle, device), "cuDeviceGet"); !found) {
    return fail(found.error());
  }
  DeviceFacts facts;
  std::array<char, 256> text{};
  constexpr auto kRoom = static_cast<std::int32_t>(std::tuple_size_v<decltype(text)> - 1);
  if (api.device_name(text.data(), kRoom, handle) == kSuccess) facts.name = text.data();
  text.fill('\0');
  if (api.device_pci(text.data(), kRoom, handle) == kSuccess) {
    facts.pci = in_small_letters(text.data());
  }
  std::size_t bytes = 0;
  if (api.device_memory(&bytes, handle) == kSuccess) facts.memory_bytes = bytes;
  facts.compute = 10 * attribute(api, handle, DeviceAttribute::compute_major) +
                  attribute(api, handle, DeviceAttribute::compute_minor);
  facts.multiprocessors = attribute(api, handle, DeviceAttribute::multiprocessors);
  facts.gpu_direct_rdma = attribute(api, handle, DeviceAttribute::gpu_direct_rdma) != 0;
  facts.dma_buf = attribute(api, handle, DeviceAttribute::dma_buf) != 0;
  facts.read_only_registration =
      attribute(api, handle, DeviceAttribute::read_only_host_register) != 0;
  return facts;
}

Result<std::shared_ptr<const Device>> Device::open(std::shared_ptr<const Driver> driver,
                                                   int ordinal) {
  const std::shared_ptr<Device> device(new Device(std::move(driver), ordinal));
  if (const Result<> started = device->start(); !started) return fail(started.error());
  return std::shared_ptr<const Device>(device);
}

Result<> Device::start() {
  const Relaxed relaxed(api());
  Result<DeviceFacts> facts = describe(*driver_, ordinal_);
  if (!facts) return fail(facts.error());
  facts_ = std::move(*facts);
  if (const Status got = api().device(&handle_, ordinal_); got != kSuccess) {
    return outcome_of(got, "cuDeviceGet");
  }
  if (const Status got = api().context_retain(&context_, handle_); got != kSuccess) {
    context_ = nullptr;
    log(LogLevel::warn, "GPU {} is not used: no context: {}", ordinal_, driver_->name(got));
    return outcome_of(got, "cuDevicePrimaryCtxRetain");
  }
  return load_kernels();
}

Result<> Device::load_kernels() {
  if (kernel_image().empty()) {
    return fail(Errc::unavailable, "this build has no GPU kernels: build it with clang installed");
  }
  const Current current(*this);
  Status got = api().module_load(&module_, kernel_image().data());
  if (got != kSuccess) module_ = nullptr;
  const auto find = [&](Function& function, const char* name) {
    if (got == kSuccess) got = api().module_function(&function, module_, name);
  };
  find(kernels_.copy_chunks, "membrain_copy_chunks");
  find(kernels_.hash_chunks, "membrain_hash_chunks");
  find(kernels_.hash_chains, "membrain_hash_chains");
  if (got == kSuccess) return {};
  log(LogLevel::warn, "GPU {} ({}, compute {}.{}) is not used: its kernels do not load: {}",
      ordinal_, facts_.name, facts_.compute / 10, facts_.compute % 10, driver_->name(got));
  return outcome_of(got, "cuModuleLoadData");
}

Device::~Device() {
  if (context_ == nullptr) return;
  const Relaxed relaxed(api());
  if (module_ != nullptr) {
    const Current current(*this);
    api().module_unload(module_);
  }
  api().context_release(handle_);
}

}  // namespace membrain::cuda
