// A hostile arena: its header and seals are the input's. A node adopts it, and must then be able to
// work with what is left: every slot once, every generation new, nothing outside.
//
// Input: what is to be put right (see Mend), generations, incarnation, then seals: a slot and 128
// bytes each; or, with Mend::no_header, the header's 64 bytes in place of those two numbers.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <set>
#include <vector>

#include "base/checksum.h"
#include "base/codec.h"
#include "base/log.h"
#include "cache/node/adoption.h"
#include "cache/node/arena.h"
#include "cache/node/block_table.h"
#include "tests/fuzz/repair.h"
#include "tests/fuzz/target.h"

namespace membrain::fuzz {
namespace {

constexpr std::uint32_t kPages = 64;
constexpr std::size_t kStep = std::size_t{1} << 20;
enum Mend : std::uint8_t { no_header = 1, checks = 2, checksums = 4, writers = 8 };

/// The file as an earlier life is said to have left it: an arena of ours, then scribbled over.
class Hostile {
 public:
  Hostile() {
    config_.name = "fuzz";
    config_.capacity_bytes = kPages * kPageBytes;
    config_.directory = folder_.path();
    check(Arena::open(config_).has_value(), "no arena can be made here");
    file_ = ::open((folder_.path() + "/membrain-fuzz").c_str(), O_RDWR | O_CLOEXEC);
    check(file_ >= 0, "the arena's file cannot be opened");
    check(::pread(file_, &header_, sizeof header_, 0) == sizeof header_, "its header");
  }
  ~Hostile() { ::close(file_); }
  Hostile(const Hostile&) = delete;
  Hostile& operator=(const Hostile&) = delete;

  /// Writes header and seals; returns what is to be put right.
  std::uint8_t write(Reader& in) const {
    std::uint8_t mending = 0;
    in.get(mending);
    Page header = header_;
    if ((mending & no_header) != 0) {
      in.raw(header.bytes.data(), sizeof(ArenaHeader));
    } else {
      in.raw(header.bytes.data() + offsetof(ArenaHeader, generations), 12);
    }
    put(&header, sizeof header, 0);
    const std::vector<std::byte> nothing(kPages * sizeof(Seal));
    put(nothing.data(), nothing.size(), kPageBytes);
    return mending;
  }
  [[nodiscard]] const ArenaConfig& config() const noexcept { return config_; }

 private:
  struct alignas(ArenaHeader) Page {
    std::array<std::byte, sizeof(ArenaHeader)> bytes{};
  };
  void put(const void* data, std::size_t size, std::size_t at) const {
    const ssize_t wrote = ::pwrite(file_, data, size, static_cast<off_t>(at));
    check(wrote == static_cast<ssize_t>(size), "the arena's file cannot be written");
  }

  Folder folder_;
  ArenaConfig config_;
  int file_ = -1;
  Page header_;
};

/// Puts the input's seals into the arena, mended as it wishes.
void scribble(Arena& arena, Reader& in, std::uint8_t mending, WriterId writer) {
  while (in.left() > sizeof(Seal)) {
    std::uint8_t place = 0;
    in.get(place);
    const SlotId slot{place % kPages};
    Seal& seal = arena.seal(slot);
    in.raw(&seal, sizeof seal);
    const std::uint64_t room = arena.capacity_bytes() - std::uint64_t{slot.value} * kPageBytes;
    if ((mending & checksums) != 0 && seal.length <= room) {
      seal.checksum = checksum(arena.memory(slot, seal.length));
    }
    if ((mending & writers) != 0 && seal.state == Seal::lent) seal.writer = writer.value;
    if ((mending & checks) != 0) mend(seal, slot);
  }
}

void sound(const BlockTable& table) {
  const Result<> fine = table.check_invariants();
  check(fine.has_value(), fine ? "" : fine.error().context);
}

/// What adopted slots cover, so that none is handed out twice.
using Covered = std::set<std::uint64_t>;
void cover(Covered& pages, const SlotClaim& claim) {
  const std::uint32_t count = claim.slot.slot_bytes / kPageBytes;
  for (std::uint64_t page = 0; page < count; ++page) {
    check(pages.insert(claim.slot.id.value + page).second, "a page was handed out twice");
  }
  check(claim.slot.id.value + std::uint64_t{count} <= kPages, "a slot outside the arena");
}

/// Fills what is free, then frees everything: an adopted arena is one like any other.
void use(BlockTable& table, const std::vector<SlotClaim>& lent) {
  Covered pages;
  std::set<std::uint64_t> generations;
  std::vector<wire::SlotRef> sealed;
  for (const SlotClaim& claim : lent) cover(pages, claim);
  table.for_each_sealed([&](const wire::SlotEntry& entry, std::span<const std::byte> bytes) {
    check(bytes.size() == entry.length, "a block of another length");
    SlotClaim claim;
    claim.slot.id = entry.slot;
    claim.slot.slot_bytes = entry.slot_bytes;
    cover(pages, claim);
    generations.insert(entry.generation.value);
    sealed.push_back({entry.slot, entry.generation});
  });
  wire::BlockMeta meta;
  meta.space = NamespaceId{77};
  while (const Result<SlotClaim> claim = table.claim(kPageBytes)) {
    cover(pages, *claim);
    const Generation generation = claim->slot.generation;
    check(generation && generations.insert(generation.value).second, "a generation came twice");
    ++meta.key.low, meta.era = Era{7};
    const BlockTable::Sealed made = table.seal(*claim, meta, checksum(claim->memory));
    if (made.fresh) sealed.push_back(made.at);
  }
  sound(table);
  for (const wire::SlotRef& at : sealed) check(table.free(at), "a sealed slot cannot be freed");
  for (const SlotClaim& claim : lent) table.abandon(claim);
  sound(table);
  check(table.pool().used_bytes() == 0, "slots are in use that nobody has");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Hostile hostile;
  Reader in(bytes_of(data, size));
  const std::uint8_t mending = hostile.write(in);
  Result<std::unique_ptr<Arena>> opened = Arena::open(hostile.config());
  if (!opened) return 0;
  Arena& arena = **opened;
  const Result<Arena::Writable> writer = arena.share_writable();
  check(writer.has_value(), "no writer");
  scribble(arena, in, mending, writer->writer);
  arena.begin_life();
  NodeCounters counters;
  BlockTable table(arena, counters);
  std::vector<SlotClaim> lent;
  Adoption adoption(table, counters,
                    [&](const SlotClaim& claim, WriterId) { lent.push_back(claim); });
  while (!adoption.step(kStep)) {
  }
  sound(table);
  use(table, lent);
  return 0;
}

}  // namespace membrain::fuzz
