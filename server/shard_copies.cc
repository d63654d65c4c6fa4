// The shard's part in copies between nodes: it orders them, and hears what became of them.
#include <utility>

#include "base/log.h"
#include "server/shard.h"

namespace membrain {

Result<wire::CopiesNoted> Shard::copies_ended(const wire::CopiesEnded& request, TimePoint now) {
  const Result<NodeIndex> node = heard(request.node, request.incarnation, now);
  if (!node) return fail(node.error());
  copies_.ended(*node, request, now);
  return wire::CopiesNoted{};
}

Result<wire::Leaving> Shard::leave(const wire::Leave& request, TimePoint now) {
  const Result<NodeIndex> index = heard(request.node, request.incarnation, now);
  if (!index) return fail(index.error());
  Node& node = nodes_[*index];
  if (!std::exchange(node.leaving, true)) {
    log(LogLevel::info, "node {} leaves: what it alone has is copied to others", node.id.value);
    copies_.leavers_changed();
  }
  return wire::Leaving{copies_.alone(*index)};
}

std::vector<wire::CopyBlocks> Shard::copy_orders(TimePoint now) {
  if (in_grace(now)) return {};
  std::vector<wire::CopyBlocks> orders = copies_.orders(now);
  for (wire::CopyBlocks& order : orders) {
    order.epoch = epoch();
    order.proof = proof(kCopyingSession, LookupId{}, 0);
  }
  return orders;
}

}  // namespace membrain
