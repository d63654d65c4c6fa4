#include "transport/ucx/queue_probe.h"

#include <utility>

#include "base/clock.h"

namespace membrain {

namespace {

void ignore_error(void*, ucp_ep_h, ucs_status_t) {}

/// Progresses the worker until the request has ended, or has had its time: it ends with the worker
/// then.
void finish(ucs_status_ptr_t request, const UcxWorker& worker, TimePoint until) {
  if (!UCS_PTR_IS_PTR(request)) return;
  const SteadyClock clock;
  while (ucp_request_check_status(request) == UCS_INPROGRESS && clock.now() < until) {
    ucp_worker_progress(worker.handle());
  }
  ucp_request_free(request);
}

}  // namespace

Result<> QueueProbe::meet(UcxWorker& worker) {
  return worker.handle(kMessageId, &on_message, this);
}

bool QueueProbe::heard_by(UcxWorker& worker, const std::shared_ptr<UcxContext>& context) {
  if (!speaker_) {
    Result<std::unique_ptr<UcxWorker>> made = UcxWorker::create(context);
    if (!made) return true;
    speaker_ = std::move(*made);
  }
  const Result<ucp_ep_h> endpoint = speaker_->connect(worker.address(), &ignore_error, nullptr);
  if (!endpoint) return true;
  const std::byte word{};
  ucp_request_param_t param{};
  const std::uint64_t before = heard_;
  const ucs_status_ptr_t sent =
      ucp_am_send_nbx(*endpoint, kMessageId, &word, sizeof word, nullptr, 0, &param);
  const SteadyClock clock;
  const TimePoint until = clock.now() + kPatience;
  for (int turns = 0; heard_ == before && (turns < kLeastTurns || clock.now() < until); ++turns) {
    ucp_worker_progress(speaker_->handle());
    ucp_worker_progress(worker.handle());
  }
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  const TimePoint ended = clock.now() + kPatience;
  finish(ucp_ep_close_nbx(*endpoint, &param), *speaker_, ended);
  finish(sent, *speaker_, ended);
  return heard_ != before;
}

ucs_status_t QueueProbe::on_message(void* probe, const void*, std::size_t, void*, std::size_t,
                                    const ucp_am_recv_param_t*) noexcept {
  ++static_cast<QueueProbe*>(probe)->heard_;
  return UCS_OK;
}

}  // namespace membrain
