#include "bench/gpu_ipc.h"

#include <dlfcn.h>

#include "transport/cuda/binder.h"

namespace membrain::cuda {
namespace {

Result<IpcApi> load(const std::string& library) {
  void* const handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) return fail(Errc::unavailable, "no NVIDIA driver on this machine");
  IpcApi api{};
  Binder binder(handle);
  binder.bind(api.handle, "cuIpcGetMemHandle");
  binder.bind(api.open, "cuIpcOpenMemHandle_v2");
  binder.bind(api.close, "cuIpcCloseMemHandle");
  ::dlclose(handle);  // it stays, and so do the functions
  if (binder.missing() != nullptr) return fail(Errc::unavailable, "the driver has no CUDA IPC");
  return api;
}

}  // namespace

Result<IpcHandle> ipc_handle_of(const std::string& library, const Device& device, Address memory) {
  const Result<IpcApi> api = load(library);
  if (!api) return fail(api.error());
  const Device::Current current(device);
  IpcHandle handle;
  const Status got = api->handle(&handle, memory);
  if (const Result<> made = outcome_of(got, "cuIpcGetMemHandle"); !made) return fail(made.error());
  return handle;
}

Result<IpcMemory> IpcMemory::open(const std::string& library, std::shared_ptr<const Device> device,
                                  const IpcHandle& handle) {
  const Result<IpcApi> api = load(library);
  if (!api) return fail(api.error());
  const Device::Current current(*device);
  Address address = 0;
  const Status got = api->open(&address, handle, kIpcLazyPeerAccess);
  if (const Result<> opened = outcome_of(got, "cuIpcOpenMemHandle"); !opened) {
    return fail(opened.error());
  }
  return IpcMemory(std::move(device), *api, address);
}

IpcMemory::~IpcMemory() {
  if (address_ == 0) return;
  const Device::Current current(*device_);
  api_.close(address_);
}

}  // namespace membrain::cuda
