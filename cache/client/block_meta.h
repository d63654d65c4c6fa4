// What the catalog is told of a block that is stored, reserved or shared.
#pragma once

#include "base/key.h"
#include "membrain/client.h"
#include "protocol/messages.h"

namespace membrain {

/// Of an item with `hash`, `parent`, `depth`, `part` and `priority`.
template <class Item>
[[nodiscard]] wire::BlockMeta meta_of(const OpenedNamespace& space, const KeyMaker& keys,
                                      const Item& item) {
  wire::BlockMeta meta;
  meta.space = NamespaceId{space.id};
  meta.era = Era{space.era};
  meta.key = keys.key(item.hash);
  if (!item.parent.empty()) meta.parent = keys.key(item.parent);
  meta.depth = item.depth;
  meta.part = item.part;
  meta.priority = item.priority;
  return meta;
}

}  // namespace membrain
