// The part of NVIDIA's driver interface that Membrain uses, declared here: it builds without the
// CUDA toolkit, and the same binary runs where no driver is (docs/adr/0021).
//
// Source  The CUDA Driver API reference, 11.8 and later. The names with _v2 have been the current
//         ones since CUDA 4; both the names and the numbers are a stable binary interface.
#pragma once

#include <cstddef>
#include <cstdint>

namespace membrain::cuda {

using Status = std::int32_t;     ///< CUresult
using Ordinal = std::int32_t;    ///< CUdevice
using Address = std::uint64_t;   ///< CUdeviceptr: with unified addressing also a host pointer
using Context = struct Ctx*;     ///< CUcontext
using Module = struct Mod*;      ///< CUmodule
using Function = struct Func*;   ///< CUfunction
using RawStream = struct Strm*;  ///< CUstream, which is cudaStream_t
using RawEvent = struct Evnt*;   ///< CUevent, which is cudaEvent_t
using HostCall = void (*)(void*);

/// CUresult: those that are told apart.
inline constexpr Status kSuccess = 0;
inline constexpr Status kInvalidValue = 1;
inline constexpr Status kOutOfMemory = 2;
inline constexpr Status kDeinitialized = 4;
inline constexpr Status kNoDevice = 100;
inline constexpr Status kInvalidDevice = 101;
inline constexpr Status kNotFound = 500;
inline constexpr Status kNotReady = 600;
inline constexpr Status kSystemNotReady = 802;
inline constexpr Status kSystemDriverMismatch = 803;

/// CUdevice_attribute
enum class DeviceAttribute : std::int32_t {
  multiprocessors = 16,
  compute_major = 75,
  compute_minor = 76,
  read_only_host_register = 113,
  gpu_direct_rdma = 116,
  dma_buf = 124,
};

/// CUpointer_attribute
enum class PointerAttribute : std::int32_t {
  memory_type = 2,     ///< of CUmemorytype, unsigned
  is_managed = 8,      ///< unsigned
  device_ordinal = 9,  ///< int
};

/// CUmemorytype
inline constexpr std::uint32_t kMemoryHost = 1;
inline constexpr std::uint32_t kMemoryDevice = 2;

/// CUstreamCaptureMode: those that are told apart.
enum class CaptureMode : std::int32_t {
  global = 0,   ///< a thread's own at first, and that in which PyTorch captures
  relaxed = 2,  ///< what a thread calls is its own affair
};

inline constexpr std::uint32_t kStreamNonBlocking = 1;     ///< CU_STREAM_NON_BLOCKING
inline constexpr std::uint32_t kEventDisableTiming = 2;    ///< CU_EVENT_DISABLE_TIMING
inline constexpr std::uint32_t kHostPortable = 1;          ///< CU_MEMHOST..._PORTABLE
inline constexpr std::uint32_t kHostRegisterReadOnly = 8;  ///< CU_MEMHOSTREGISTER_READ_ONLY

/// The driver's functions, by their names there.
struct Api {
  Status (*init)(std::uint32_t flags);
  Status (*driver_version)(std::int32_t* version);
  Status (*error_name)(Status status, const char** text);

  Status (*device_count)(std::int32_t* count);
  Status (*device)(Ordinal* device, std::int32_t ordinal);
  Status (*device_name)(char* name, std::int32_t bytes, Ordinal device);
  Status (*device_memory)(std::size_t* bytes, Ordinal device);
  Status (*device_attribute)(std::int32_t* value, DeviceAttribute which, Ordinal device);
  Status (*device_pci)(char* address, std::int32_t bytes, Ordinal device);

  Status (*context_retain)(Context* context, Ordinal device);
  Status (*context_release)(Ordinal device);
  Status (*context_push)(Context context);
  Status (*context_pop)(Context* context);
  Status (*exchange_capture_mode)(CaptureMode* mode);  ///< the thread's

  Status (*module_load)(Module* module, const void* image);
  Status (*module_unload)(Module module);
  Status (*module_function)(Function* function, Module module, const char* name);
  Status (*launch)(Function function, std::uint32_t grid_x, std::uint32_t grid_y,
                   std::uint32_t grid_z, std::uint32_t block_x, std::uint32_t block_y,
                   std::uint32_t block_z, std::uint32_t shared_bytes, RawStream stream,
                   void** arguments, void** extra);

  Status (*allocate)(Address* memory, std::size_t bytes);
  Status (*free)(Address memory);
  Status (*allocate_host)(void** memory, std::size_t bytes, std::uint32_t flags);
  Status (*free_host)(void* memory);
  Status (*register_host)(void* memory, std::size_t bytes, std::uint32_t flags);
  Status (*unregister_host)(void* memory);
  Status (*pointer_attributes)(std::uint32_t count, const PointerAttribute* which, void** values,
                               Address pointer);

  Status (*copy)(Address to, Address from, std::size_t bytes, RawStream stream);

  Status (*stream_create)(RawStream* stream, std::uint32_t flags);
  Status (*stream_destroy)(RawStream stream);
  Status (*stream_wait)(RawStream stream, RawEvent event, std::uint32_t flags);
  Status (*stream_synchronize)(RawStream stream);
  Status (*stream_host_call)(RawStream stream, HostCall call, void* data);

  Status (*event_create)(RawEvent* event, std::uint32_t flags);
  Status (*event_destroy)(RawEvent event);
  Status (*event_record)(RawEvent event, RawStream stream);
  Status (*event_query)(RawEvent event);
};

}  // namespace membrain::cuda
