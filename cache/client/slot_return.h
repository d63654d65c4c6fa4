// How slots that were lent go back to their node.
#pragma once

#include <vector>

#include "cache/client/node_links.h"
#include "cache/client/store_exchange.h"
#include "cache/client/writable_arena.h"
#include "protocol/messages.h"

namespace membrain {

/// This process does not write to `slots` any more, and tells the node, if it is connected. What
/// gets lost on the way is named lost by the node's next answer.
///
/// Threads  The data loop only.
void give_back(NodeLinks& links, const WritableArena& arena, std::vector<wire::SlotRef> slots);

/// After a SealSlots of these, which may never have left: without an answer they are given back, of
/// which the node ignores what it has taken already.
void end_lent(NodeLinks& links, const WritableArena& arena, std::vector<wire::SlotRef> slots,
              const StoreAnswer& answer);

/// The same for what the node calls lost and nobody here writes to.
void give_back_idle(NodeLinks& links, const WritableArena& arena,
                    const std::vector<wire::SlotRef>& lost);

}  // namespace membrain
