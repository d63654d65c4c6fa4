// What a call by block ids means: checked, and as lists of places.
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include "cache/client/fetch_list.h"
#include "cache/client/replicate_list.h"
#include "cache/client/store_list.h"
#include "protocol/group_messages.h"

namespace membrain {

namespace {

/// Ids that are listed, or that follow a first one.
class Ids {
 public:
  Ids(std::span<const std::uint32_t> listed, std::uint32_t first, std::size_t count) noexcept
      : listed_(listed), first_(first), count_(listed.empty() ? count : listed.size()) {}

  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t operator[](std::size_t i) const noexcept {
    return listed_.empty() ? std::uint64_t{first_} + i : listed_[i];
  }

 private:
  std::span<const std::uint32_t> listed_;
  std::uint32_t first_;
  std::size_t count_;
};

Result<> check_ids(const LayoutGeometry& layout, const Ids& ids) {
  for (std::size_t i = 0; i < ids.count(); ++i) {
    if (ids[i] >= layout.block_count()) {
      return fail(Errc::invalid_argument, "a block id is not in the layout");
    }
  }
  return {};
}

/// Two blocks cannot be received into one place.
Result<> check_each_once(const LayoutGeometry& layout, const Ids& ids) {
  std::vector<bool> taken(layout.block_count());
  for (std::size_t i = 0; i < ids.count(); ++i) {
    if (taken[ids[i]]) return fail(Errc::invalid_argument, "a block id comes twice");
    taken[ids[i]] = true;
  }
  return {};
}

}  // namespace

Result<FetchList> FetchList::of(const RegisteredLayout& into, const LayoutFetch& fetch) {
  const LayoutGeometry& layout = *into.geometry();
  const Ids ids(fetch.ids, fetch.first_id, fetch.count);
  if (!fetch.blocks.empty() && fetch.blocks.size() != ids.count()) {
    return fail(Errc::invalid_argument, "as many block ids as blocks");
  }
  const std::size_t planes = layout.plane_count();
  if (fetch.first_plane >= planes || fetch.plane_count > planes - fetch.first_plane) {
    return fail(Errc::invalid_argument, "planes that the layout does not have");
  }
  if (const Result<> fine = check_ids(layout, ids); !fine) return fail(fine.error());
  if (const Result<> fine = check_each_once(layout, ids); !fine) return fail(fine.error());
  const std::size_t end = fetch.plane_count == 0 ? planes : fetch.first_plane + fetch.plane_count;
  const std::uint64_t offset = layout.offset_of(fetch.first_plane);
  const std::uint64_t length = layout.offset_of(end) - offset;
  FetchList list;
  list.owner_ = into.geometry();
  list.ranges_.reserve(ids.count());
  const Ids blocks(fetch.blocks, fetch.first_block, ids.count());
  for (std::size_t i = 0; i < ids.count(); ++i) {
    WantedRange range;
    if (blocks[i] > 0xffffffffu) return fail(Errc::invalid_argument, "no such block");
    range.block = static_cast<std::uint32_t>(blocks[i]);
    range.part = fetch.part;
    range.offset = static_cast<std::uint32_t>(offset);
    range.length = end == planes ? 0 : static_cast<std::uint32_t>(length);  // all that is left
    range.into = Place(layout, static_cast<std::uint32_t>(ids[i]), offset, length);
    list.ranges_.push_back(range);
  }
  return list;
}

Result<StoreList> StoreList::of(const RegisteredLayout& from, const LayoutStore& blocks) {
  const LayoutGeometry& geometry = *from.geometry();
  const Ids ids(blocks.ids, blocks.first_id, blocks.hashes.size());
  if (ids.count() != blocks.hashes.size()) {
    return fail(Errc::invalid_argument, "as many block ids as hashes");
  }
  if (const Result<> fine = check_ids(geometry, ids); !fine) return fail(fine.error());
  StoreList list;
  list.layout = from.geometry();
  list.items.resize(ids.count());
  list.ids.reserve(ids.count());
  for (std::size_t i = 0; i < ids.count(); ++i) {
    StoreItem& item = list.items[i];
    item.hash = blocks.hashes[i];
    item.parent = i == 0 ? blocks.parent : blocks.hashes[i - 1];
    item.depth = blocks.first_depth + static_cast<std::uint32_t>(i);
    item.part = blocks.part;
    item.priority = blocks.priority;
    list.ids.push_back(static_cast<std::uint32_t>(ids[i]));
  }
  return list;
}

Result<ReplicateList> ReplicateList::of(const RegisteredLayout& layout, const Replication& blocks) {
  const LayoutGeometry& geometry = *layout.geometry();
  const Ids ids(blocks.ids, blocks.first_id, blocks.hashes.size());
  if (ids.count() != blocks.hashes.size()) {
    return fail(Errc::invalid_argument, "as many block ids as hashes");
  }
  if (ids.count() == 0 || ids.count() > wire::kMaxGroupBlocks) {
    return fail(Errc::invalid_argument, "1 to 65,536 blocks are replicated at once");
  }
  if (const Result<> fine = check_ids(geometry, ids); !fine) return fail(fine.error());
  if (const Result<> fine = check_each_once(geometry, ids); !fine) return fail(fine.error());
  ReplicateList list;
  list.layout = layout.geometry();
  list.places.reserve(ids.count());
  ChecksumStream names;
  for (std::size_t i = 0; i < ids.count(); ++i) {
    const auto id = static_cast<std::uint32_t>(ids[i]);
    list.places.emplace_back(geometry, id, 0, geometry.block_bytes());
    const std::byte size[] = {std::byte{blocks.hashes[i].size}};
    names.add(size);
    names.add(blocks.hashes[i].view());
  }
  list.names = names.finish();
  return list;
}

StoreList StoreList::take(std::size_t first, std::size_t count) {
  std::vector<std::size_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), first);
  return take(numbers);
}

StoreList StoreList::take(const std::vector<std::size_t>& numbers) {
  StoreList taken;
  taken.layout = layout;
  taken.items.reserve(numbers.size());
  for (const std::size_t i : numbers) {
    taken.items.push_back(std::move(items[i]));
    if (layout) taken.ids.push_back(ids[i]);
  }
  return taken;
}

StoreList StoreList::staged(std::span<const std::uint32_t> numbers, const std::byte* memory) const {
  StoreList list;
  list.items.reserve(numbers.size());
  for (const std::uint32_t number : numbers) {
    const StoreItem& of = items[number];
    const auto size = static_cast<std::size_t>(bytes(number));
    StoreItem& item = list.items.emplace_back();
    item.hash = of.hash;
    item.parent = of.parent;
    item.depth = of.depth;
    item.part = of.part;
    item.priority = of.priority;
    item.from = {{memory, size}};
    memory += size;
  }
  return list;
}

}  // namespace membrain
