#include "cache/node/fetch_answer.h"

#include <algorithm>
#include <vector>

namespace membrain {

void answer_items(Fabric& fabric, PeerId peer, const wire::Header& header,
                  std::span<const wire::FetchItem> items, wire::ItemStatus status) {
  std::vector<std::byte> frame;
  while (!items.empty()) {
    wire::Data message;
    const std::size_t count = std::min(items.size(), wire::kMaxDataItems);
    for (const wire::FetchItem& item : items.first(count)) {
      message.items.push_back({item.tag, status, 0});
    }
    static_cast<void>(fabric.send(peer, wire::write_frame(frame, header, message)));
    items = items.subspan(count);
  }
}

}  // namespace membrain
