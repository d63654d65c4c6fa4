// Share table: which blocks of an engine peers may read where they lie, and who reads them now.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "cache/memory/device_lane.h"
#include "cache/memory/layout_geometry.h"
#include "cache/memory/place.h"
#include "cache/node/announcers.h"
#include "membrain/result.h"
#include "protocol/messages.h"

namespace membrain {

/// A block that stays where its engine has it.
struct SharedBlock {
  wire::BlockMeta meta;
  std::uint32_t length = 0;  ///< bytes
  Checksum checksum;
  std::shared_ptr<const LayoutGeometry> layout;
  std::uint32_t id = 0;  ///< of the engine's block, in `layout`
  int device = 0;        ///< the GPU that it lies on

  [[nodiscard]] Place place() const noexcept { return {*layout, id, 0, length}; }
};

/// Shared blocks by slot, which is only a number here, and by the engine's own name {layout, id}.
/// A block that was taken back is in no list and refused to readers at once; its place is kept
/// until nobody reads it and the shard has nothing more to say of it.
///
/// Pure: no messages, no time, no GPU.
/// Threads  The data loop's.
class ShareTable final : public SlotList {
 public:
  static constexpr std::size_t kMaxBlocks = 1 << 20;

  /// From now on readers may have it. `invalid_argument` if that block of the engine is shared, or
  /// still read; `out_of_capacity`.
  Result<wire::SlotEntry> add(SharedBlock block);
  /// The shard is being told of it: its word (`settle`) will come, or the connection goes.
  void told(SlotId slot) noexcept;

  /// What a reader asks for is there, and stays readable until `close_read`.
  [[nodiscard]] wire::ItemStatus open_read(const wire::FetchItem& item, const SharedBlock*& block);
  /// The same for a whole block.
  [[nodiscard]] wire::ItemStatus open_read(const wire::SlotRef& at, const SharedBlock*& block);
  void close_read(const wire::SlotRef& at);
  /// What a reader asks for, without opening it; null if it is not there.
  [[nodiscard]] const SharedBlock* find(const wire::SlotRef& at) const noexcept;

  /// No reader gets these any more. Returns what the shard knows of them: to be told that they are
  /// gone. Ids that are not shared do not count.
  std::vector<KeyedSlot> take_back(const LayoutGeometry& layout,
                                   std::span<const std::uint32_t> ids);
  /// The same for all.
  std::vector<KeyedSlot> take_back_all();
  /// Nobody reads these.
  [[nodiscard]] bool quiet(const LayoutGeometry& layout,
                           std::span<const std::uint32_t> ids) const noexcept;

  /// The shard's word on what it was told of. True if the block was taken back meanwhile: the shard
  /// is to be told that it is gone.
  [[nodiscard]] bool settle(const wire::SlotRef& at, wire::ItemStatus verdict);
  /// The shard has forgotten it: nobody will ask any more.
  void drop(const wire::SlotRef& at);
  /// The shard of these keys is gone: what it was told is void.
  void unlinked(const KeyRange& range);

  bool list(SlotId& from, std::size_t most, const KeyRange& range,
            std::vector<wire::SlotEntry>& into) override;
  void all_listed(const KeyRange&) override {}
  [[nodiscard]] std::optional<BlockKey> key_of(const wire::SlotRef& at) const override;

  /// Blocks that readers may have.
  [[nodiscard]] std::size_t shared_count() const noexcept { return shared_; }
  /// Places in use: of those, and of what is not quite gone.
  [[nodiscard]] std::size_t place_count() const noexcept { return index_.size(); }

 private:
  enum class State : std::uint8_t { unused, shared, taken_back };
  enum class Shard : std::uint8_t { unaware, asked, aware };  ///< what it knows of the block
  struct Record {
    SharedBlock block;
    Generation generation;
    std::uint32_t reads = 0;
    State state = State::unused;
    Shard shard = Shard::unaware;
  };
  struct Name {
    const LayoutGeometry* layout;
    std::uint32_t id;
    bool operator==(const Name&) const = default;
  };
  struct NameHash {
    std::size_t operator()(const Name& name) const noexcept {
      return std::hash<const void*>()(name.layout) ^ (name.id * 0x9e3779b97f4a7c15ull);
    }
  };

  [[nodiscard]] Record* record_of(const wire::SlotRef& at) noexcept;
  [[nodiscard]] const Record* record_of(const wire::SlotRef& at) const noexcept {
    return const_cast<ShareTable*>(this)->record_of(at);
  }
  [[nodiscard]] wire::SlotRef ref_of(std::uint32_t slot) const noexcept {
    return {SlotId{slot}, records_[slot].generation};
  }
  [[nodiscard]] static wire::SlotEntry entry_of(SlotId slot, const Record& record);
  void end(std::uint32_t slot, std::vector<KeyedSlot>& known);
  void end_sharing(Record& record) noexcept;
  void free_if_over(std::uint32_t slot);

  std::vector<Record> records_;  ///< by slot
  std::vector<std::uint32_t> unused_;
  std::unordered_map<Name, std::uint32_t, NameHash> index_;
  std::uint64_t last_generation_ = 0;
  std::size_t shared_ = 0;
};

}  // namespace membrain
