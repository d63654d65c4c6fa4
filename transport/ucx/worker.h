// UcxWorker: the progress engine of one fabric.
#pragma once

#include <ucp/api/ucp.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "membrain/result.h"
#include "transport/ucx/ucx_context.h"

namespace membrain {

/// Owns a UCP worker. Its destruction can still call back operations: they outlive it.
///
/// Threads  One.
class UcxWorker {
 public:
  static constexpr std::size_t kMinHeaderBytes = 256;

  /// `unavailable` if UCX cannot make one, or its active messages have hardly any room for headers.
  static Result<std::unique_ptr<UcxWorker>> create(std::shared_ptr<UcxContext> context);
  ~UcxWorker();
  UcxWorker(const UcxWorker&) = delete;
  UcxWorker& operator=(const UcxWorker&) = delete;

  [[nodiscard]] ucp_worker_h handle() const noexcept { return worker_; }
  [[nodiscard]] const UcxContext& context() const noexcept { return *context_; }
  [[nodiscard]] int event_fd() const noexcept { return event_fd_; }
  /// False if there is work already.
  [[nodiscard]] bool arm() noexcept { return ucp_worker_arm(worker_) == UCS_OK; }
  /// The longest header of an active message: what the narrowest of the context's transports has
  /// room for. Unreliable datagrams have one packet: 1 to 4 KiB. UCX ends the process over more.
  [[nodiscard]] std::size_t header_bytes() const noexcept { return header_bytes_; }
  /// What other workers connect to.
  [[nodiscard]] std::span<const std::byte> address() const noexcept { return address_; }

  /// Every active message with this id goes to `handler`.
  Result<> handle(unsigned id, ucp_am_recv_callback_t handler, void* argument);
  /// An endpoint to the worker of that address, which must have been proven: UCX believes it.
  Result<ucp_ep_h> connect(std::span<const std::byte> address, ucp_err_handler_cb_t on_error,
                           void* argument);

 private:
  explicit UcxWorker(std::shared_ptr<UcxContext> context) noexcept : context_(std::move(context)) {}
  Result<> open();

  std::shared_ptr<UcxContext> context_;
  ucp_worker_h worker_ = nullptr;
  int event_fd_ = -1;
  std::size_t header_bytes_ = 0;
  std::vector<std::byte> address_;
};

/// What UCX prints of an endpoint: a page of text. Once per connection.
[[nodiscard]] std::string describe_endpoint(ucp_ep_h endpoint);

/// "shm", "rdma" or "tcp": what UCX chose for the bulk bytes of the endpoint of which it printed
/// this. Pure.
[[nodiscard]] std::string_view lane_of(std::string_view endpoint_info) noexcept;

}  // namespace membrain
