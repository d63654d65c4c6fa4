#include "protocol/shard_messages.h"

#include <string_view>

#include "protocol/lists.h"

namespace membrain::wire {

namespace {
constexpr std::size_t kShardEntryBytes = 14;  // without its text
}  // namespace

void ShardList::encode(Writer& out) const {
  out.put(version);
  put_list(out, shards, [&](const ShardEntry& entry) {
    out.put(entry.shard), out.put(entry.first), out.put(std::string_view(entry.leader));
  });
}
void ShardList::decode(Reader& in) {
  in.get(version);
  get_list(in, shards, kMaxShards, kShardEntryBytes, [&](ShardEntry& entry) {
    in.get(entry.shard), in.get(entry.first), in.get(entry.leader, kMaxTextBytes);
  });
}

}  // namespace membrain::wire
