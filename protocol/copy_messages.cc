#include "protocol/copy_messages.h"

#include "protocol/lists.h"

namespace membrain::wire {

namespace {
constexpr std::size_t kCopyItemBytes = 8 + 52 + kSlotRefBytes + 4 + sizeof(Checksum);
constexpr std::size_t kCopyEndBytes = 9;
}  // namespace

void CopyBlocks::encode(Writer& out) const {
  out.put(node), out.put(incarnation), out.put(epoch);
  proof.encode(out), out.put(deadline_ms), out.put(source), out.put(std::string_view(address));
  put_list(out, items, [&](const CopyItem& item) {
    out.put(item.copy), item.meta.encode(out), out.put(item.at.slot), out.put(item.at.generation);
    out.put(item.length), out.put(item.checksum);
  });
}
void CopyBlocks::decode(Reader& in) {
  in.get(node), in.get(incarnation), in.get(epoch);
  proof.decode(in), in.get(deadline_ms), in.get(source), in.get(address, kMaxTextBytes);
  get_list(in, items, kMaxCopyItems, kCopyItemBytes, [&](CopyItem& item) {
    in.get(item.copy), item.meta.decode(in), in.get(item.at.slot), in.get(item.at.generation);
    in.get(item.length), in.get(item.checksum);
  });
}

void CopiesEnded::encode(Writer& out) const {
  out.put(node), out.put(incarnation);
  put_list(out, items, [&](const CopyEnd& end) { out.put(end.copy), out.put(end.status); });
}
void CopiesEnded::decode(Reader& in) {
  in.get(node), in.get(incarnation);
  get_list(in, items, kMaxCopyItems, kCopyEndBytes,
           [&](CopyEnd& end) { in.get(end.copy), in.get(end.status, kLastItemStatus); });
}

void Leave::encode(Writer& out) const {
  out.put(node), out.put(incarnation);
}
void Leave::decode(Reader& in) {
  in.get(node), in.get(incarnation);
}

void Leaving::encode(Writer& out) const {
  out.put(alone);
}
void Leaving::decode(Reader& in) {
  in.get(alone);
}

}  // namespace membrain::wire
