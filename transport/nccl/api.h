// The part of NCCL's interface that Membrain uses, declared here: it builds without NCCL, and the
// same binary runs where there is none (docs/adr/0024).
//
// Source  nccl.h 2.20 and later. NCCL takes configurations of older headers by their `size` and
//         `version`, so this one stays as it was in 2.20.
#pragma once

#include <array>
#include <climits>
#include <cstddef>
#include <cstdint>

#include "transport/cuda/api.h"

namespace membrain::nccl {

using Status = std::int32_t;     ///< ncclResult_t
using Comm = struct CommState*;  ///< ncclComm_t

inline constexpr Status kSuccess = 0;
inline constexpr Status kInvalidArgument = 4;
inline constexpr Status kInvalidUsage = 5;
inline constexpr Status kInProgress = 7;

inline constexpr std::int32_t kUint8 = 1;              ///< ncclDataType_t
inline constexpr std::int32_t kOldestVersion = 22000;  ///< 2.20.0, as ncclGetVersion writes it

/// ncclUniqueId: what members of a new communicator find each other by. Passed by value.
struct UniqueId {
  static constexpr std::size_t kBytes = 128;
  std::array<char, kBytes> bytes{};
};

/// ncclConfig_t of 2.20.
struct Config {
  std::size_t size = sizeof(Config);
  std::uint32_t magic = 0xcafebeef;
  std::uint32_t version = 22005;
  std::int32_t blocking = INT_MIN;  ///< INT_MIN: as NCCL likes
  std::int32_t cga_cluster_size = INT_MIN;
  std::int32_t min_ctas = INT_MIN;
  std::int32_t max_ctas = INT_MIN;
  const char* net_name = nullptr;
  std::int32_t split_share = INT_MIN;
};

/// NCCL's functions, by their names there.
struct Api {
  Status (*version)(std::int32_t* version);
  Status (*unique_id)(UniqueId* id);
  Status (*init_rank)(Comm* comm, std::int32_t size, UniqueId id, std::int32_t rank,
                      Config* config);
  Status (*async_error)(Comm comm, Status* status);
  Status (*broadcast)(const void* from, void* to, std::size_t count, std::int32_t type,
                      std::int32_t root, Comm comm, cuda::RawStream stream);
  Status (*abort)(Comm comm);
  const char* (*error_text)(Status status);
  const char* (*last_error)(Comm comm);
};

}  // namespace membrain::nccl
