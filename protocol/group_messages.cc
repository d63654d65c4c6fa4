#include "protocol/group_messages.h"

#include "protocol/lists.h"

namespace membrain::wire {

void GroupHello::encode(Writer& out) const {
  out.put(std::string_view(group)), out.put(rank), out.put(size), out.put(proof);
}
void GroupHello::decode(Reader& in) {
  in.get(group, kMaxTextBytes), in.get(rank), in.get(size), in.get(proof);
}

void GroupOffer::encode(Writer& out) const {
  out.put(sequence), out.put(root), out.put(shape), out.put(blocks);
  out.put(chunk_blocks), out.put(block_bytes), out.put(names);
}
void GroupOffer::decode(Reader& in) {
  in.get(sequence), in.get(root), in.get(shape, TreeShape::binomial), in.get(blocks);
  in.get(chunk_blocks), in.get(block_bytes), in.get(names);
}

void GroupBlocks::encode(Writer& out) const {
  out.put(sequence), out.put(first);
  put_list(out, blocks,
           [&](const GroupBlock& block) { out.put(block.status), out.put(block.checksum); });
}
void GroupBlocks::decode(Reader& in) {
  in.get(sequence), in.get(first);
  get_list(in, blocks, kMaxChunkBlocks, 1 + sizeof(Checksum), [&](GroupBlock& block) {
    in.get(block.status, kLastItemStatus), in.get(block.checksum);
  });
}

void GroupDone::encode(Writer& out) const {
  out.put(sequence);
  put_plain(out, bitmap);
}
void GroupDone::decode(Reader& in) {
  in.get(sequence);
  get_plain(in, bitmap, kMaxGroupBlocks / 8);
}

void GroupPropose::encode(Writer& out) const {
  out.put(sequence), out.put(root), out.put(blocks), out.put(chunk_blocks);
  out.put(block_bytes), out.put(names), out.put(id);
}
void GroupPropose::decode(Reader& in) {
  in.get(sequence), in.get(root), in.get(blocks), in.get(chunk_blocks);
  in.get(block_bytes), in.get(names), in.get(id);
}

void GroupAnswer::encode(Writer& out) const {
  out.put(sequence), out.put(vote);
  put_plain(out, bitmap);
}
void GroupAnswer::decode(Reader& in) {
  in.get(sequence), in.get(vote, GroupVote::ended);
  get_plain(in, bitmap, kMaxGroupBlocks / 8);
}

void GroupGo::encode(Writer& out) const {
  out.put(sequence), out.put(step), out.put(id), out.put(budget_ms);
}
void GroupGo::decode(Reader& in) {
  in.get(sequence), in.get(step, GroupStep::finish), in.get(id), in.get(budget_ms);
}

}  // namespace membrain::wire
