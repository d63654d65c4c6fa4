// Answers to a Fetch that carry no bytes.
#pragma once

#include <span>

#include "protocol/messages.h"
#include "transport/fabric.h"

namespace membrain {

/// All `items` with one status, in as many messages as that takes. A peer that is gone needs none.
void answer_items(Fabric& fabric, PeerId peer, const wire::Header& header,
                  std::span<const wire::FetchItem> items, wire::ItemStatus status);

}  // namespace membrain
