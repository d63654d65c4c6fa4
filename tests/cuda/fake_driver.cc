// The functions of libcuda.so.1 that Membrain uses.
#include "tests/cuda/fake_driver.h"

#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "bench/gpu_ipc_api.h"
#include "tests/cuda/fake_capture.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/cuda/fake_kernels.h"

using namespace membrain::cuda;
using fake::Gpu;

namespace membrain::cuda {
struct Ctx {};
struct Mod {
  std::string image;
};
}  // namespace membrain::cuda

namespace {

constexpr int kMostDevices = 2;
std::atomic<int> devices = kMostDevices;
std::atomic<std::size_t> retained = 0;  // primary contexts, each as often as it was
Ctx primary[kMostDevices];
thread_local int contexts = 0;  // on this thread's stack

Gpu& gpu() {
  return Gpu::instance();
}

Status in_context(const char* function) {
  constexpr Status kInvalidContext = 201;
  return contexts == 0 ? kInvalidContext : gpu().verdict(function);
}

/// The same for a call that could be unsafe while another thread captures a graph.
Status safe_in_context(const char* function) {
  if (const Status refused = fake::capture_verdict()) return refused;
  return in_context(function);
}

/// What was page-locked, each piece by itself.
class Registrations {
 public:
  void add(Address from, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    ranges_[from] = from + bytes;
  }
  void remove(Address from) {
    const std::lock_guard lock(mutex_);
    ranges_.erase(from);
  }
  /// Some of it lies in one, and some does not.
  [[nodiscard]] bool cut(Address from, std::size_t bytes) const {
    const std::lock_guard lock(mutex_);
    auto next = ranges_.upper_bound(from);
    if (next != ranges_.end() && next->first < from + bytes) return true;
    if (next == ranges_.begin()) return false;
    const Address end = std::prev(next)->second;
    return from < end && end < from + bytes;
  }

 private:
  mutable std::mutex mutex_;
  std::map<Address, Address> ranges_;
};
Registrations registered;

/// Whether this process has mapped it for reading alone.
bool is_read_only(const void* memory) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  std::ifstream maps("/proc/self/maps");
  std::uintptr_t from = 0;
  std::uintptr_t to = 0;
  char dash = 0;
  std::string access;
  std::string rest;
  while (maps >> std::hex >> from >> dash >> to >> access && std::getline(maps, rest)) {
    if (from <= address && address < to) return access[1] != 'w';
  }
  return false;
}

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace

namespace membrain::cuda::fake {

void set_devices(int count) {
  devices = count;
}
void fail_call(std::uint64_t skip, Status status) {
  gpu().fail_call(skip, status);
}
std::uint64_t calls() {
  return gpu().calls();
}
void pause(bool paused) {
  gpu().pause(paused);
}
void settle() {
  gpu().settle();
}
void break_down() {
  gpu().break_down();
}
void repair() {
  static_cast<void>(end_capture());
  gpu().repair();
}
bool is_device(const void* memory) {
  return gpu().is_device(reinterpret_cast<Address>(memory));
}
std::size_t owned() {
  return gpu().owned() + retained;
}

}  // namespace membrain::cuda::fake

extern "C" {

Status cuInit(std::uint32_t) {
  return devices == 0 ? kNoDevice : gpu().verdict("cuInit");
}

Status cuDriverGetVersion(std::int32_t* version) {
  *version = 12040;
  return gpu().verdict("cuDriverGetVersion");
}

Status cuGetErrorName(Status status, const char** text) {
  *text = status == kOutOfMemory            ? "CUDA_ERROR_OUT_OF_MEMORY"
          : status == kSystemNotReady       ? "CUDA_ERROR_SYSTEM_NOT_READY"
          : status == kSystemDriverMismatch ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"
                                            : "CUDA_ERROR_OF_SOME_KIND";
  return kSuccess;
}

Status cuDeviceGetCount(std::int32_t* count) {
  *count = devices;
  return gpu().verdict("cuDeviceGetCount");
}

Status cuDeviceGet(Ordinal* device, std::int32_t ordinal) {
  if (ordinal < 0 || ordinal >= devices) return kInvalidDevice;
  *device = ordinal;
  return gpu().verdict("cuDeviceGet");
}

Status cuDeviceGetName(char* name, std::int32_t bytes, Ordinal) {
  std::strncpy(name, "Fake GPU", static_cast<std::size_t>(bytes));
  return gpu().verdict("cuDeviceGetName");
}

Status cuDeviceTotalMem_v2(std::size_t* bytes, Ordinal) {
  *bytes = std::size_t{80} << 30;
  return gpu().verdict("cuDeviceTotalMem_v2");
}

Status cuDeviceGetAttribute(std::int32_t* value, DeviceAttribute which, Ordinal device) {
  switch (which) {
    case DeviceAttribute::multiprocessors:
      *value = 132;
      break;
    case DeviceAttribute::compute_major:
      *value = 9;
      break;
    case DeviceAttribute::compute_minor:
      *value = 0;
      break;
    case DeviceAttribute::read_only_host_register:
      *value = device == 0 ? 1 : 0;
      break;
    default:
      *value = 1;
  }
  return gpu().verdict("cuDeviceGetAttribute");
}

Status cuDeviceGetPCIBusId(char* address, std::int32_t bytes, Ordinal device) {
  std::strncpy(address, device == 0 ? "0000:1B:00.0" : "0000:9F:00.0",
               static_cast<std::size_t>(bytes));
  return gpu().verdict("cuDeviceGetPCIBusId");
}

Status cuDevicePrimaryCtxRetain(Context* context, Ordinal device) {
  if (const Status verdict = gpu().verdict("cuDevicePrimaryCtxRetain")) return verdict;
  *context = &primary[device];
  ++retained;
  return kSuccess;
}

Status cuDevicePrimaryCtxRelease_v2(Ordinal) {
  --retained;
  return kSuccess;
}

Status cuCtxPushCurrent_v2(Context context) {
  if (context == nullptr) return kInvalidValue;
  ++contexts;
  return kSuccess;
}

Status cuCtxPopCurrent_v2(Context*) {
  if (contexts == 0) return kInvalidValue;
  --contexts;
  return kSuccess;
}

Status cuModuleLoadData(Module* module, const void* image) {
  if (const Status verdict = safe_in_context("cuModuleLoadData")) return verdict;
  *module = new Mod{static_cast<const char*>(image)};
  gpu().own(*module, 1, false);
  return kSuccess;
}

Status cuModuleUnload(Module module) {
  if (const Status refused = fake::capture_verdict()) return refused;
  if (!gpu().disown(module)) return kInvalidValue;
  delete module;
  return in_context("cuModuleUnload");
}

Status cuModuleGetFunction(Function* function, Module module, const char* name) {
  if (const Status verdict = in_context("cuModuleGetFunction")) return verdict;
  if (module->image.find(".entry " + std::string(name) + "(") == std::string::npos) {
    return kNotFound;
  }
  *function = fake::kernel_named(name);
  return kSuccess;
}

Status cuLaunchKernel(Function function, std::uint32_t grid_x, std::uint32_t grid_y, std::uint32_t,
                      std::uint32_t block_x, std::uint32_t, std::uint32_t, std::uint32_t,
                      RawStream stream, void** arguments, void**) {
  if (grid_x == 0 || grid_y == 0 || grid_y > 65535 || block_x == 0 || block_x > 1024) {
    return kInvalidValue;
  }
  if (const Status verdict = in_context("cuLaunchKernel")) return verdict;
  std::vector<Address> values;
  for (std::uint32_t i = 0; i < function->arguments; ++i) {
    values.push_back(*static_cast<Address*>(arguments[i]));
  }
  gpu().queue(stream, [=] { function->run(values.data(), grid_x, grid_y, block_x); });
  return kSuccess;
}

Status cuMemAlloc_v2(Address* memory, std::size_t bytes) {
  if (const Status verdict = safe_in_context("cuMemAlloc_v2")) return verdict;
  void* const got = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  gpu().own(got, bytes, true);
  *memory = reinterpret_cast<Address>(got);
  return kSuccess;
}

Status cuMemFree_v2(Address memory) {
  if (const Status refused = fake::capture_verdict()) return refused;
  gpu().synchronize_all();
  if (!gpu().disown(at<void>(memory))) return kInvalidValue;
  std::free(at<void>(memory));
  return in_context("cuMemFree_v2");
}

// ---- between processes: whoever opens it has a copy of what was there then

Status cuIpcGetMemHandle(IpcHandle* handle, Address memory) {
  if (const Status verdict = in_context("cuIpcGetMemHandle")) return verdict;
  const std::uint64_t bytes = gpu().bytes_of(at<void>(memory));
  if (bytes == 0) return kInvalidValue;
  const std::uint64_t words[] = {static_cast<std::uint64_t>(::getpid()), memory, bytes};
  std::memcpy(handle->bytes.data(), words, sizeof words);
  return kSuccess;
}

Status cuIpcOpenMemHandle_v2(Address* memory, IpcHandle handle, std::uint32_t) {
  std::uint64_t words[3];
  std::memcpy(words, handle.bytes.data(), sizeof words);
  if (const Status verdict = cuMemAlloc_v2(memory, words[2])) return verdict;
  const iovec here{at<void>(*memory), words[2]};
  const iovec there{at<void>(words[1]), words[2]};
  const auto got = ::process_vm_readv(static_cast<pid_t>(words[0]), &here, 1, &there, 1, 0);
  if (got == static_cast<ssize_t>(words[2])) return kSuccess;
  cuMemFree_v2(*memory);
  return kInvalidValue;
}

Status cuIpcCloseMemHandle(Address memory) {
  return cuMemFree_v2(memory);
}

Status cuMemHostAlloc(void** memory, std::size_t bytes, std::uint32_t) {
  if (const Status verdict = safe_in_context("cuMemHostAlloc")) return verdict;
  *memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  gpu().own(*memory, bytes, false);
  return kSuccess;
}

Status cuMemFreeHost(void* memory) {
  if (const Status refused = fake::capture_verdict()) return refused;
  gpu().synchronize_all();
  if (!gpu().disown(memory)) return kInvalidValue;
  std::free(memory);
  return in_context("cuMemFreeHost");
}

Status cuMemHostRegister_v2(void* memory, std::size_t bytes, std::uint32_t flags) {
  if (const Status verdict = safe_in_context("cuMemHostRegister_v2")) return verdict;
  if ((flags & kHostRegisterReadOnly) == 0 && is_read_only(memory)) return kInvalidValue;
  gpu().own(memory, bytes, false);
  registered.add(reinterpret_cast<Address>(memory), bytes);
  return kSuccess;
}

Status cuMemHostUnregister(void* memory) {
  if (const Status refused = fake::capture_verdict()) return refused;
  if (!gpu().disown(memory)) return kInvalidValue;
  registered.remove(reinterpret_cast<Address>(memory));
  return in_context("cuMemHostUnregister");
}

Status cuPointerGetAttributes(std::uint32_t count, const PointerAttribute* which, void** values,
                              Address pointer) {
  if (const Status verdict = gpu().verdict("cuPointerGetAttributes")) return verdict;
  const bool device = gpu().is_device(pointer);
  for (std::uint32_t i = 0; i < count; ++i) {
    switch (which[i]) {
      case PointerAttribute::memory_type:
        *static_cast<std::uint32_t*>(values[i]) = device ? kMemoryDevice : 0;
        break;
      case PointerAttribute::is_managed:
        *static_cast<std::uint32_t*>(values[i]) = 0;
        break;
      case PointerAttribute::device_ordinal:
        *static_cast<std::int32_t*>(values[i]) = device ? 0 : -2;
        break;
    }
  }
  return kSuccess;
}

Status cuMemcpyAsync(Address to, Address from, std::size_t bytes, RawStream stream) {
  if (const Status verdict = in_context("cuMemcpyAsync")) return verdict;
  if (registered.cut(to, bytes) || registered.cut(from, bytes)) return kInvalidValue;
  gpu().queue(stream, [=] { std::memcpy(at<void>(to), at<const void>(from), bytes); });
  return kSuccess;
}

Status cuStreamCreate(RawStream* stream, std::uint32_t) {
  if (const Status verdict = in_context("cuStreamCreate")) return verdict;
  *stream = gpu().open_stream();
  return kSuccess;
}

Status cuStreamDestroy_v2(RawStream stream) {
  gpu().close_stream(stream);
  return in_context("cuStreamDestroy_v2");
}

Status cuStreamWaitEvent(RawStream stream, RawEvent event, std::uint32_t) {
  if (const Status verdict = in_context("cuStreamWaitEvent")) return verdict;
  gpu().queue_wait(stream, event);
  return kSuccess;
}

Status cuStreamSynchronize(RawStream stream) {
  if (const Status refused = fake::capture_verdict()) return refused;
  gpu().synchronize(stream);
  return in_context("cuStreamSynchronize");
}

Status cuLaunchHostFunc(RawStream stream, HostCall call, void* data) {
  if (const Status verdict = in_context("cuLaunchHostFunc")) return verdict;
  gpu().queue(stream, [=] { call(data); });
  return kSuccess;
}

Status cuEventCreate(RawEvent* event, std::uint32_t) {
  if (const Status verdict = in_context("cuEventCreate")) return verdict;
  *event = new Evnt;
  gpu().own(*event, 1, false);
  return kSuccess;
}

Status cuEventDestroy_v2(RawEvent event) {
  if (!gpu().disown(event)) return kInvalidValue;
  gpu().synchronize_all();
  delete event;
  return in_context("cuEventDestroy_v2");
}

Status cuEventRecord(RawEvent event, RawStream stream) {
  if (const Status verdict = in_context("cuEventRecord")) return verdict;
  gpu().record(stream, event);
  return kSuccess;
}

Status cuEventQuery(RawEvent event) {
  if (const Status verdict = safe_in_context("cuEventQuery")) return verdict;
  return gpu().reached(event) ? kSuccess : kNotReady;
}

}  // extern "C"
