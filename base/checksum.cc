#include "base/checksum.h"

// The state on the stack instead of the heap: its layout is fixed by the library version we link.
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include <cstdint>
#include <new>

#if defined(__x86_64__)
#include <xxh_x86dispatch.h>  // picks AVX2 or AVX-512 at run time: about 50 GB/s against 19
#endif

namespace membrain {

namespace {

XXH3_state_t* state_of(void* memory) noexcept {
  return std::launder(static_cast<XXH3_state_t*>(memory));
}

Checksum from(XXH128_hash_t hash) noexcept {
  return {hash.low64, hash.high64};
}

}  // namespace

Checksum checksum(std::span<const std::byte> bytes) noexcept {
  return from(XXH3_128bits(bytes.data(), bytes.size()));
}

ChecksumStream::ChecksumStream() noexcept {
  static_assert(sizeof(XXH3_state_t) <= kStateBytes && alignof(XXH3_state_t) <= kStateAlignment);
  XXH3_INITSTATE(new (state()) XXH3_state_t);
  XXH3_128bits_reset(state_of(state()));
}

void* ChecksumStream::state() const noexcept {
  return room_ + (kStateAlignment - reinterpret_cast<std::uintptr_t>(room_) % kStateAlignment);
}

ChecksumStream::~ChecksumStream() = default;

void ChecksumStream::add(std::span<const std::byte> bytes) noexcept {
  XXH3_128bits_update(state_of(state()), bytes.data(), bytes.size());
}

Checksum ChecksumStream::finish() const noexcept {
  return from(XXH3_128bits_digest(state_of(state())));
}

}  // namespace membrain
