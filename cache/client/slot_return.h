// How slots that were lent go back to their node.
#pragma once

#include <vector>

#include "cache/client/node_links.h"
#include "cache/client/writable_arena.h"
#include "protocol/messages.h"

namespace membrain {

/// This process does not write to `slots` any more, and tells the node, if it is connected. What
/// gets lost on the way is named lost by the node's next answer.
///
/// Threads  The data loop only.
void give_back(NodeLinks& links, const WritableArena& arena, std::vector<wire::SlotRef> slots);

/// The same for what the node calls lost and nobody here writes to.
void give_back_idle(NodeLinks& links, const WritableArena& arena,
                    const std::vector<wire::SlotRef>& lost);

}  // namespace membrain
