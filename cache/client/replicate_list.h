// The blocks of one replication, by their ids in a layout.
#pragma once

#include <memory>
#include <vector>

#include "base/checksum.h"
#include "cache/memory/layout_geometry.h"
#include "cache/memory/place.h"
#include "membrain/group.h"
#include "membrain/layout.h"
#include "membrain/result.h"

namespace membrain {

struct ReplicateList {
  /// `invalid_argument` for what does not fit the layout, and for an id that comes twice.
  static Result<ReplicateList> of(const RegisteredLayout& layout, const Replication& blocks);

  std::vector<Place> places;
  std::shared_ptr<const LayoutGeometry> layout;  ///< keeps what they point to
  Checksum names;                                ///< XXH3-128 of the hashes, one behind the other
};

}  // namespace membrain
