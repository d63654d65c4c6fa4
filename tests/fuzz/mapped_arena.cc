// An arena as a process of its host maps it: a hostile one must not lead a reader or a writer out
// of the file.
//
// Input: the arena's header (its layout check is put right), bytes that the file has beyond its
// first page, then what stands where the header says that the seals are.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "base/codec.h"
#include "cache/client/mapped_arena.h"
#include "cache/client/writable_arena.h"
#include "tests/fuzz/target.h"
#include "transport/descriptor.h"

namespace membrain::fuzz {
namespace {

constexpr std::uint16_t kMostBytes = 3 * kPageBytes + 300;  ///< behind the first page
constexpr std::size_t kSeals = 8;                           ///< that are looked at

/// Whatever is asked for lies inside, and is what a seal says.
void read(const MappedArena& arena, std::span<const std::byte> memory, std::size_t seals_offset) {
  std::array<std::byte, kPageBytes> into{};
  for (std::uint32_t i = 0; i < kSeals; ++i) {
    const std::size_t at = seals_offset + i * sizeof(Seal);
    if (at > memory.size() || memory.size() - at < sizeof(Seal)) break;
    const auto& seal = *reinterpret_cast<const Seal*>(memory.data() + at);
    const BlockPart name{NamespaceId{seal.space}, seal.key, seal.part};
    Location place{
        arena.node(), arena.life(), SlotId{i}, seal.length, Generation{seal.generation.load()},
        seal.checksum};
    arena.prefetch(place);
    if (!arena.holds(name, place)) continue;
    check(i < arena.slots().size() / kPageBytes, "a slot without a seal holds something");
    const std::size_t size = std::min<std::size_t>(into.size(), place.length);
    const std::span<const std::byte> bytes =
        arena.bytes(place, 0, static_cast<std::uint32_t>(size));
    check(bytes.data() >= memory.data() && bytes.data() + size <= memory.data() + memory.size(),
          "bytes outside the arena");
    const Piece piece{into.data(), size};
    static_cast<void>(copy_part(arena, name, place, 0, Place(std::span(&piece, 1)), true));
  }
  const Location beyond{arena.node(), arena.life(), SlotId{UINT32_MAX}, 1, Generation{1}, {}};
  arena.prefetch(beyond);
  check(!arena.holds({}, beyond), "a slot that does not exist holds something");
}

/// The same file, mapped for writing.
void write(std::span<const std::byte> memory, NodeId node, Incarnation life) {
  const Descriptor file(::memfd_create("arena", MFD_CLOEXEC));
  const ssize_t wrote = ::write(file.fd(), memory.data(), memory.size());
  check(wrote == static_cast<ssize_t>(memory.size()), "a file in memory cannot be written");
  const auto arena = WritableArena::map(file, node, life, WriterId{1});
  if (!arena) return;
  for (std::uint32_t slot = 0; slot < kSeals; ++slot) {
    const std::span<std::byte> bytes = (*arena)->bytes({SlotId{slot}, Generation{1}}, 100);
    (*arena)->prepare(bytes);
    std::ranges::fill(bytes, std::byte{1});
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reader in(bytes_of(data, size));
  alignas(ArenaHeader) std::array<std::byte, sizeof(ArenaHeader)> raw{};
  std::uint16_t extra = 0;
  in.raw(raw.data(), raw.size());
  in.get(extra);
  if (!in.ok()) return 0;
  auto& header = *reinterpret_cast<ArenaHeader*>(raw.data());
  header.layout_check = header.check_of();
  const PageMemory memory(kPageBytes + extra % kMostBytes);
  const std::span<std::byte> bytes = memory.bytes();
  std::ranges::copy(raw, bytes.begin());
  const std::uint64_t seals_at = header.seals_offset;
  if (seals_at >= raw.size() && seals_at < bytes.size()) {
    in.raw(bytes.data() + seals_at, std::min<std::size_t>(in.left(), bytes.size() - seals_at));
  }
  const NodeId node{header.node};
  const Incarnation life{header.incarnation.load()};
  if (const auto arena = MappedArena::over(bytes, nullptr, node, life)) {
    read(**arena, bytes, seals_at);
  }
  write(bytes, node, life);
  return 0;
}

}  // namespace membrain::fuzz
