#include "transport/ucx/worker.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "transport/ucx/route.h"

namespace membrain {

std::string describe_endpoint(ucp_ep_h endpoint) {
  return printed([endpoint](std::FILE* stream) { ucp_ep_print_info(endpoint, stream); });
}

std::string_view lane_of(std::string_view endpoint_info) noexcept {
  const auto names = [&endpoint_info](std::string_view transport) {
    return endpoint_info.find(transport) != std::string_view::npos;
  };
  constexpr std::array kShared = {":cma/", ":posix/", ":sysv/", ":xpmem/", ":knem/", ":self/"};
  if (std::any_of(kShared.begin(), kShared.end(), names)) return "shm";
  constexpr std::array kRemote = {":rc_", ":dc_", ":ud_"};
  if (std::any_of(kRemote.begin(), kRemote.end(), names)) return "rdma";
  return "tcp";
}

Result<std::unique_ptr<UcxWorker>> UcxWorker::create(std::shared_ptr<UcxContext> context) {
  std::unique_ptr<UcxWorker> worker(new UcxWorker(std::move(context)));
  if (const Result<> opened = worker->open(); !opened) return fail(opened.error());
  return worker;
}

Result<> UcxWorker::open() {
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = UCS_THREAD_MODE_SINGLE;
  ucs_status_t status = ucp_worker_create(context_->handle(), &params, &worker_);
  if (status != UCS_OK) return fail(Errc::unavailable, "ucp_worker_create", status);
  status = ucp_worker_get_efd(worker_, &event_fd_);
  if (status != UCS_OK) return fail(Errc::unavailable, "ucp_worker_get_efd", status);

  ucp_worker_attr_t attributes{};
  attributes.field_mask = UCP_WORKER_ATTR_FIELD_ADDRESS | UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER;
  status = ucp_worker_query(worker_, &attributes);
  if (status != UCS_OK) return fail(Errc::unavailable, "ucp_worker_query", status);
  const auto* bytes = reinterpret_cast<const std::byte*>(attributes.address);
  address_.assign(bytes, bytes + attributes.address_length);
  ucp_worker_release_address(worker_, attributes.address);
  header_bytes_ = attributes.max_am_header;
  if (header_bytes_ < kMinHeaderBytes) {
    return fail(Errc::unavailable, "UCX segments are too small: set UCX_*_SEG_SIZE to 1k or more");
  }
  return {};
}

UcxWorker::~UcxWorker() {
  if (worker_ != nullptr) ucp_worker_destroy(worker_);
}

Result<> UcxWorker::handle(unsigned id, ucp_am_recv_callback_t handler, void* argument) {
  ucp_am_handler_param_t params{};
  params.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                      UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  params.id = id;
  params.flags = UCP_AM_FLAG_PERSISTENT_DATA;
  params.cb = handler;
  params.arg = argument;
  const ucs_status_t status = ucp_worker_set_am_recv_handler(worker_, &params);
  if (status != UCS_OK) return fail(Errc::unavailable, "ucp_worker_set_am_recv_handler", status);
  return {};
}

Result<ucp_ep_h> UcxWorker::connect(std::span<const std::byte> address,
                                    ucp_err_handler_cb_t on_error, void* argument) {
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(address.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = on_error;
  params.err_handler.arg = argument;
  ucp_ep_h endpoint = nullptr;
  const ucs_status_t status = ucp_ep_create(worker_, &params, &endpoint);
  if (status != UCS_OK) return fail(Errc::unavailable, "ucp_ep_create", status);
  return endpoint;
}

}  // namespace membrain
