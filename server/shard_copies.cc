// The shard's part in copies between nodes: it orders them, and hears what became of them.
#include "server/shard.h"

namespace membrain {

Result<wire::CopiesNoted> Shard::copies_ended(const wire::CopiesEnded& request, TimePoint now) {
  const Result<NodeIndex> node = heard(request.node, request.incarnation, now);
  if (!node) return fail(node.error());
  copies_.ended(*node, request, now);
  return wire::CopiesNoted{};
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
