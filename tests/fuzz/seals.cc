// Seals: a slot, then 128 bytes, as they came and with their self check put right.
#include <cstring>
#include <optional>

#include "base/codec.h"
#include "protocol/seal.h"
#include "tests/fuzz/repair.h"
#include "tests/fuzz/target.h"

namespace membrain::fuzz {
namespace {

const Seal& seal_in(std::span<const std::byte> memory) noexcept {
  return *reinterpret_cast<const Seal*>(memory.data());
}
Seal& seal_in(std::span<std::byte> memory) noexcept {
  return *reinterpret_cast<Seal*>(memory.data());
}

constexpr std::size_t kFieldBytes = offsetof(Seal, writer) + sizeof(Seal::writer);

/// What is accepted is written again: the same bytes. What lies behind the fields says nothing.
void read(std::span<const std::byte> bytes, SlotId slot) {
  const auto same = [&](std::span<const std::byte> written) {
    return std::memcmp(written.data(), bytes.data(), kFieldBytes) == 0;
  };
  if (const std::optional<SealContent> sealed = read_seal(seal_in(bytes), slot)) {
    const PageMemory written(sizeof(Seal));
    write_seal(seal_in(written.bytes()), *sealed);
    check(same(written.bytes()), "an accepted seal is not what would be written");
  }
  if (const std::optional<LentContent> lent = read_lent(seal_in(bytes), slot)) {
    const PageMemory written(sizeof(Seal));  // lending leaves the other fields as they were
    std::memcpy(written.bytes().data(), bytes.data(), sizeof(Seal));
    write_lent(seal_in(written.bytes()), *lent);
    check(same(written.bytes()), "a lent seal is not what would be written");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reader in(bytes_of(data, size));
  SlotId slot;
  in.get(slot);
  const PageMemory seal(sizeof(Seal));
  in.raw(seal.bytes().data(), sizeof(Seal));
  if (!in.ok()) return 0;
  read(seal.bytes(), slot);
  mend(seal_in(seal.bytes()), slot);
  read(seal.bytes(), slot);
  return 0;
}

}  // namespace membrain::fuzz
