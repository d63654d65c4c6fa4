// Sharing blocks of a GPU: their checksums are made, then peers may read them where they lie.
#pragma once

#include <functional>

#include "cache/client/device_transfer.h"
#include "cache/client/store_list.h"
#include "cache/share/share_table.h"
#include "membrain/result.h"
#include "transport/task.h"

namespace membrain {

/// What is to be shared.
struct ShareJob {
  StoreList list;  ///< with a layout
  std::function<wire::BlockMeta(const StoreItem&)> meta;
  std::function<Result<>(SharedBlock)> put;  ///< from then on peers may have it
};

/// Each block is hashed on the GPU; what it cannot hash (a short one, or one not in sixteens), in a
/// copy that comes to the host. The block itself stays.
[[nodiscard]] Task<Result<TransferReport>> share_from_device(DeviceLane& lane, DeviceTerms terms,
                                                             ShareJob job);

}  // namespace membrain
