// What transport/cuda/api.h declares is what NVIDIA's own header declares, where that is there.
#include <cuda.h>
#include <gtest/gtest.h>

#include "bench/gpu_ipc_api.h"
#include "tests/cuda/same_call.h"
#include "transport/cuda/api.h"

namespace membrain::cuda {
namespace {

using cuda_test::kSameCall;

#define MEMBRAIN_SAME(ours, theirs) \
  static_assert(kSameCall<decltype(Api::ours), decltype(&theirs)>, #theirs)
MEMBRAIN_SAME(init, cuInit);
MEMBRAIN_SAME(driver_version, cuDriverGetVersion);
MEMBRAIN_SAME(error_name, cuGetErrorName);
MEMBRAIN_SAME(device_count, cuDeviceGetCount);
MEMBRAIN_SAME(device, cuDeviceGet);
MEMBRAIN_SAME(device_name, cuDeviceGetName);
MEMBRAIN_SAME(device_memory, cuDeviceTotalMem_v2);
MEMBRAIN_SAME(device_attribute, cuDeviceGetAttribute);
MEMBRAIN_SAME(device_pci, cuDeviceGetPCIBusId);
MEMBRAIN_SAME(context_retain, cuDevicePrimaryCtxRetain);
MEMBRAIN_SAME(context_release, cuDevicePrimaryCtxRelease_v2);
MEMBRAIN_SAME(context_push, cuCtxPushCurrent_v2);
MEMBRAIN_SAME(context_pop, cuCtxPopCurrent_v2);
MEMBRAIN_SAME(exchange_capture_mode, cuThreadExchangeStreamCaptureMode);
MEMBRAIN_SAME(module_load, cuModuleLoadData);
MEMBRAIN_SAME(module_unload, cuModuleUnload);
MEMBRAIN_SAME(module_function, cuModuleGetFunction);
MEMBRAIN_SAME(launch, cuLaunchKernel);
MEMBRAIN_SAME(allocate, cuMemAlloc_v2);
MEMBRAIN_SAME(free, cuMemFree_v2);
MEMBRAIN_SAME(allocate_host, cuMemHostAlloc);
MEMBRAIN_SAME(free_host, cuMemFreeHost);
MEMBRAIN_SAME(register_host, cuMemHostRegister_v2);
MEMBRAIN_SAME(unregister_host, cuMemHostUnregister);
MEMBRAIN_SAME(pointer_attributes, cuPointerGetAttributes);
MEMBRAIN_SAME(copy, cuMemcpyAsync);
MEMBRAIN_SAME(stream_create, cuStreamCreate);
MEMBRAIN_SAME(stream_destroy, cuStreamDestroy_v2);
MEMBRAIN_SAME(stream_wait, cuStreamWaitEvent);
MEMBRAIN_SAME(stream_synchronize, cuStreamSynchronize);
MEMBRAIN_SAME(stream_host_call, cuLaunchHostFunc);
MEMBRAIN_SAME(event_create, cuEventCreate);
MEMBRAIN_SAME(event_destroy, cuEventDestroy_v2);
MEMBRAIN_SAME(event_record, cuEventRecord);
MEMBRAIN_SAME(event_query, cuEventQuery);
#undef MEMBRAIN_SAME
static_assert(kSameCall<decltype(IpcApi::handle), decltype(&cuIpcGetMemHandle)>);
static_assert(kSameCall<decltype(IpcApi::open), decltype(&cuIpcOpenMemHandle_v2)>);
static_assert(kSameCall<decltype(IpcApi::close), decltype(&cuIpcCloseMemHandle)>);

TEST(CudaHeader, NumbersAreNvidias) {
  EXPECT_EQ(kSuccess, CUDA_SUCCESS);
  EXPECT_EQ(kInvalidValue, CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(kOutOfMemory, CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(kDeinitialized, CUDA_ERROR_DEINITIALIZED);
  EXPECT_EQ(kNoDevice, CUDA_ERROR_NO_DEVICE);
  EXPECT_EQ(kInvalidDevice, CUDA_ERROR_INVALID_DEVICE);
  EXPECT_EQ(kNotFound, CUDA_ERROR_NOT_FOUND);
  EXPECT_EQ(kNotReady, CUDA_ERROR_NOT_READY);
  EXPECT_EQ(kSystemNotReady, CUDA_ERROR_SYSTEM_NOT_READY);
  EXPECT_EQ(kSystemDriverMismatch, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
  EXPECT_EQ(static_cast<int>(CaptureMode::global), CU_STREAM_CAPTURE_MODE_GLOBAL);
  EXPECT_EQ(static_cast<int>(CaptureMode::relaxed), CU_STREAM_CAPTURE_MODE_RELAXED);
  const auto is = [](DeviceAttribute ours, CUdevice_attribute theirs) {
    return static_cast<int>(ours) == static_cast<int>(theirs);
  };
  EXPECT_TRUE(is(DeviceAttribute::multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT));
  EXPECT_TRUE(is(DeviceAttribute::compute_major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR));
  EXPECT_TRUE(is(DeviceAttribute::compute_minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR));
  EXPECT_TRUE(is(DeviceAttribute::read_only_host_register,
                 CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED));
  EXPECT_TRUE(is(DeviceAttribute::gpu_direct_rdma, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED));
  EXPECT_TRUE(is(DeviceAttribute::dma_buf, CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED));
  const auto same = [](PointerAttribute ours, CUpointer_attribute theirs) {
    return static_cast<int>(ours) == static_cast<int>(theirs);
  };
  EXPECT_TRUE(same(PointerAttribute::memory_type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE));
  EXPECT_TRUE(same(PointerAttribute::is_managed, CU_POINTER_ATTRIBUTE_IS_MANAGED));
  EXPECT_TRUE(same(PointerAttribute::device_ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL));
  EXPECT_EQ(kMemoryHost, static_cast<std::uint32_t>(CU_MEMORYTYPE_HOST));
  EXPECT_EQ(kMemoryDevice, static_cast<std::uint32_t>(CU_MEMORYTYPE_DEVICE));
  EXPECT_EQ(kStreamNonBlocking, static_cast<std::uint32_t>(CU_STREAM_NON_BLOCKING));
  EXPECT_EQ(kEventDisableTiming, static_cast<std::uint32_t>(CU_EVENT_DISABLE_TIMING));
  EXPECT_EQ(kHostPortable, static_cast<std::uint32_t>(CU_MEMHOSTALLOC_PORTABLE));
  EXPECT_EQ(kHostPortable, static_cast<std::uint32_t>(CU_MEMHOSTREGISTER_PORTABLE));
  EXPECT_EQ(kIpcLazyPeerAccess, static_cast<std::uint32_t>(CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
  EXPECT_EQ(kHostRegisterReadOnly, static_cast<std::uint32_t>(CU_MEMHOSTREGISTER_READ_ONLY));
}

}  // namespace
}  // namespace membrain::cuda
