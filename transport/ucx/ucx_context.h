// UcxContext: UCX as Membrain wants it, the same on 1.13 and on current releases.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "membrain/result.h"
#include "transport/fabric.h"
#include "transport/ucx/device_memory.h"

struct ucp_context;

namespace membrain {

struct UcxContextConfig {
  enum class Use : std::uint8_t {
    messages,
    windows,  ///< remote reads: see ucx_windows.h
  } use = Use::messages;
  /// UCX's own TCP ports, which do not check who speaks, listen on the loopback interface alone.
  /// Nobody on another machine can be reached then. UCX_NET_DEVICES in the environment wins.
  bool loopback_only = true;
  /// UCX's list of network devices, e.g. "mlx5_0:1,mlx5_1:1"; empty: the loopback interface or all
  /// of them, as above. UCX_NET_DEVICES in the environment wins.
  std::string devices;
  /// UCX's list of transports, e.g. "tcp,self"; empty: UCX chooses. UCX_TLS in the environment
  /// wins.
  std::string transports;
};

/// A UCP context with active messages and wake-up, and without remote memory access: UCX's emulated
/// put and get on TCP and shared memory trust the address on the wire. Or, for windows alone, one
/// with remote memory access and without messages.
///
/// Ownership  Shared by the fabrics and regions made from it; the last one frees it.
/// Threads    Immutable after creation; any thread may use it (workers belong to one thread each).
class UcxContext {
 public:
  /// Presets UCX's variables where the environment has none, then opens a context and logs what it
  /// uses. Changes the environment: call it while no other thread reads that.
  /// `invalid_argument` if the environment asks for a rendezvous that the sender drives, or UCX
  /// does not understand it; `unavailable` if no transport can be opened.
  static Result<std::shared_ptr<UcxContext>> create(UcxContextConfig config = {});
  ~UcxContext();
  UcxContext(const UcxContext&) = delete;
  UcxContext& operator=(const UcxContext&) = delete;

  /// What UCX found to send with: "tcp/eth0", "posix/memory", "rc_mlx5/mlx5_0:1".
  [[nodiscard]] std::vector<std::string> transports() const;
  /// UCX's version, e.g. "1.13.1".
  [[nodiscard]] static std::string version();

  /// What it does with GPUs' memory. UCX_TLS=^cuda in the environment keeps it from any of that.
  [[nodiscard]] const DeviceSupport& devices() const noexcept { return devices_; }

  /// Peers of this host may write into a queue that they share with it.
  [[nodiscard]] bool shares_memory() const noexcept { return shares_memory_; }

  [[nodiscard]] ucp_context* handle() const noexcept { return context_; }

 private:
  UcxContext(ucp_context* context, DeviceSupport devices) noexcept
      : context_(context), devices_(devices) {}
  ucp_context* context_;
  DeviceSupport devices_;
  bool shares_memory_ = false;
};

/// True if `address` ("host:port") is reached through the loopback interface alone: the contexts of
/// those who listen and connect only there can be `loopback_only`.
[[nodiscard]] bool is_loopback(const Address& address);

}  // namespace membrain
