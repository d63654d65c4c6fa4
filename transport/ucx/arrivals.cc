#include "transport/ucx/arrivals.h"

#include <cstring>
#include <utility>

namespace membrain {

Arrivals::Batch& Arrivals::take() {
  taken_.messages.clear();
  taken_.bytes.clear();
  std::swap(taken_, pending_);
  return taken_;
}

ucs_status_t Arrivals::on_message(void* arrivals, const void* header, std::size_t header_size,
                                  void* data, std::size_t size,
                                  const ucp_am_recv_param_t* param) noexcept {
  Arrivals& self = *static_cast<Arrivals*>(arrivals);
  MessageHead head{};
  if (header_size < sizeof head) return UCS_OK;  // nobody of ours
  std::memcpy(&head, header, sizeof head);
  const auto found = self.by_token_.find(head.token);
  if (found == self.by_token_.end()) return UCS_OK;  // of a connection that is gone
  if (!found->second->hears(head.kind)) return UCS_OK;

  Batch& pending = self.pending_;
  const auto* frame = static_cast<const std::byte*>(header) + sizeof head;
  const std::size_t frame_size = header_size - sizeof head;
  const bool rendezvous = (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
  const bool kept = rendezvous || (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_DATA) != 0;
  const HeldBytes held = size != 0 && kept ? HeldBytes{data, size, rendezvous} : HeldBytes{};
  if (!found->second->hold(held.held())) return UCS_OK;
  pending.messages.push_back(
      {found->second, head.sequence, head.kind, pending.bytes.size(), frame_size, held});
  pending.bytes.insert(pending.bytes.end(), frame, frame + frame_size);
  return held.descriptor != nullptr ? UCS_INPROGRESS : UCS_OK;
}

}  // namespace membrain
