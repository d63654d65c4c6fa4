#include "transport/cuda/driver.h"

#include <dlfcn.h>
#include <unistd.h>

#include "base/log.h"
#include "transport/cuda/binder.h"

namespace membrain::cuda {

namespace {

/// The first function that the library lacks; null if it has all.
const char* bind_all(void* library, Api& api) noexcept {
  Binder binder(library);
  binder.bind(api.init, "cuInit");
  binder.bind(api.driver_version, "cuDriverGetVersion");
  binder.bind(api.error_name, "cuGetErrorName");
  binder.bind(api.device_count, "cuDeviceGetCount");
  binder.bind(api.device, "cuDeviceGet");
  binder.bind(api.device_name, "cuDeviceGetName");
  binder.bind(api.device_memory, "cuDeviceTotalMem_v2");
  binder.bind(api.device_attribute, "cuDeviceGetAttribute");
  binder.bind(api.device_pci, "cuDeviceGetPCIBusId");
  binder.bind(api.context_retain, "cuDevicePrimaryCtxRetain");
  binder.bind(api.context_release, "cuDevicePrimaryCtxRelease_v2");
  binder.bind(api.context_push, "cuCtxPushCurrent_v2");
  binder.bind(api.context_pop, "cuCtxPopCurrent_v2");
  binder.bind(api.exchange_capture_mode, "cuThreadExchangeStreamCaptureMode");
  binder.bind(api.module_load, "cuModuleLoadData");
  binder.bind(api.module_unload, "cuModuleUnload");
  binder.bind(api.module_function, "cuModuleGetFunction");
  binder.bind(api.launch, "cuLaunchKernel");
  binder.bind(api.allocate, "cuMemAlloc_v2");
  binder.bind(api.free, "cuMemFree_v2");
  binder.bind(api.allocate_host, "cuMemHostAlloc");
  binder.bind(api.free_host, "cuMemFreeHost");
  binder.bind(api.register_host, "cuMemHostRegister_v2");
  binder.bind(api.unregister_host, "cuMemHostUnregister");
  binder.bind(api.pointer_attributes, "cuPointerGetAttributes");
  binder.bind(api.copy, "cuMemcpyAsync");
  binder.bind(api.stream_create, "cuStreamCreate");
  binder.bind(api.stream_destroy, "cuStreamDestroy_v2");
  binder.bind(api.stream_wait, "cuStreamWaitEvent");
  binder.bind(api.stream_synchronize, "cuStreamSynchronize");
  binder.bind(api.stream_host_call, "cuLaunchHostFunc");
  binder.bind(api.event_create, "cuEventCreate");
  binder.bind(api.event_destroy, "cuEventDestroy_v2");
  binder.bind(api.event_record, "cuEventRecord");
  binder.bind(api.event_query, "cuEventQuery");
  return binder.missing();
}

/// Why the library does not come: it is not here, and neither is its module; or it is broken.
tl::unexpected<Error> not_loaded(const std::string& library) {
  const char* const said = ::dlerror();
  const std::string why = said != nullptr ? said : "dlopen says nothing";
  const bool absent = why.starts_with(library + ": cannot open shared object file: No such file");
  const bool module = ::access("/proc/driver/nvidia/version", F_OK) == 0;
  if (absent && !module) {
    return fail(Errc::unavailable, "no NVIDIA driver on this machine", kNoDevice);
  }
  log(LogLevel::warn, "no GPU is used: {}; {}", why,
      absent ? "NVIDIA's kernel module is loaded, but its library is not here (containers: --gpus "
               "all)"
             : "install the NVIDIA driver again");
  return fail(Errc::unavailable, "the NVIDIA driver's library cannot be loaded");
}

}  // namespace

Result<std::shared_ptr<const Driver>> Driver::load(const std::string& library) {
  void* const handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) return not_loaded(library);
  const std::shared_ptr<Driver> driver(new Driver);
  const char* const missing = bind_all(handle, driver->api_);
  ::dlclose(handle);  // it stays, and so do the functions
  if (missing != nullptr) {
    log(LogLevel::warn, "no GPU is used: {} has no {}; update the NVIDIA driver", library, missing);
    return fail(Errc::unavailable, "the NVIDIA driver is older than CUDA 11.8");
  }
  if (const Result<> started = driver->start(); !started) return fail(started.error());
  return std::shared_ptr<const Driver>(driver);
}

Result<> Driver::start() {
  const Status status = api_.init(0);
  if (status == kNoDevice) return fail(Errc::unavailable, "no GPU on this machine", status);
  if (status != kSuccess) {
    log(LogLevel::warn, "no GPU is used: the NVIDIA driver does not start: {}; {}", name(status),
        cure_of(status));
    return outcome_of(status, name(status));
  }
  if (const Status got = api_.driver_version(&version_); got != kSuccess) {
    return outcome_of(got, "cuDriverGetVersion");
  }
  if (const Status got = api_.device_count(&devices_); got != kSuccess) {
    return outcome_of(got, "cuDeviceGetCount");
  }
  if (devices_ == 0) return fail(Errc::unavailable, "no GPU on this machine", kNoDevice);
  return {};
}

std::string_view Driver::name(Status status) const noexcept {
  const char* text = nullptr;
  if (api_.error_name(status, &text) != kSuccess || text == nullptr) return "an unknown error";
  return text;
}

std::string_view cure_of(Status status) noexcept {
  switch (status) {
    case kSystemNotReady:
      return "systemctl start nvidia-fabricmanager, without which GPUs behind an NVSwitch do not "
             "start";
    case kSystemDriverMismatch:
      return "reboot, or reload the driver's module (modprobe -r nvidia_uvm nvidia_drm "
             "nvidia_modeset nvidia, then modprobe nvidia): it is of another version than its "
             "library";
    default:
      return "see what nvidia-smi and dmesg say of it";
  }
}

Result<> outcome_of(Status status, std::string_view what) noexcept {
  switch (status) {
    case kSuccess:
      return {};
    case kOutOfMemory:
      return fail(Errc::out_of_capacity, what, status);
    case kInvalidValue:
    case kInvalidDevice:
      return fail(Errc::invalid_argument, what, status);
    case kDeinitialized:
      return fail(Errc::cancelled, what, status);
    default:
      return fail(Errc::unavailable, what, status);
  }
}

}  // namespace membrain::cuda
