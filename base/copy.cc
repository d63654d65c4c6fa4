#include "base/copy.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace membrain {

namespace {

#if defined(__x86_64__)

constexpr std::size_t kLineBytes = 64;
constexpr std::size_t kAheadBytes = 2048;  // of the loads: the processor's own stop at each page

/// Whole lines from anywhere to an aligned place, past the caches. The second kind leaves the same
/// bytes in `kept` too, which is aligned, by the same loads.
using Stream = void (*)(std::byte* to, const std::byte* from, std::size_t lines);
using StreamAndKeep = void (*)(std::byte* to, std::byte* kept, const std::byte* from,
                               std::size_t lines);

void prefetch_ahead(const std::byte* line) noexcept {
  _mm_prefetch(reinterpret_cast<const char*>(line + kAheadBytes), _MM_HINT_T0);
}

__attribute__((target("avx512f"))) void stream_512(std::byte* to, const std::byte* from,
                                                   std::size_t lines) {
  for (std::size_t i = 0; i < lines * kLineBytes; i += kLineBytes) {
    prefetch_ahead(from + i);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
  }
}

__attribute__((target("avx512f"))) void keep_512(std::byte* to, std::byte* kept,
                                                 const std::byte* from, std::size_t lines) {
  for (std::size_t i = 0; i < lines * kLineBytes; i += kLineBytes) {
    prefetch_ahead(from + i);
    const __m512i line = _mm512_loadu_si512(from + i);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), line);
    _mm512_store_si512(kept + i, line);
  }
}

__attribute__((target("avx2"))) void stream_256(std::byte* to, const std::byte* from,
                                                std::size_t lines) {
  for (std::size_t i = 0; i < lines * kLineBytes; i += kLineBytes) {
    prefetch_ahead(from + i);
    const auto* source = reinterpret_cast<const __m256i*>(from + i);
    auto* target = reinterpret_cast<__m256i*>(to + i);
    _mm256_stream_si256(target, _mm256_loadu_si256(source));
    _mm256_stream_si256(target + 1, _mm256_loadu_si256(source + 1));
  }
}

__attribute__((target("avx2"))) void keep_256(std::byte* to, std::byte* kept, const std::byte* from,
                                              std::size_t lines) {
  for (std::size_t i = 0; i < lines * kLineBytes; i += sizeof(__m256i)) {
    if (i % kLineBytes == 0) prefetch_ahead(from + i);
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i));
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i), half);
    _mm256_store_si256(reinterpret_cast<__m256i*>(kept + i), half);
  }
}

struct Streams {
  Stream plain = nullptr;
  StreamAndKeep keeping = nullptr;
};

Streams pick_streams() noexcept {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") != 0) return {stream_512, keep_512};
  if (__builtin_cpu_supports("avx2") != 0) return {stream_256, keep_256};
  return {};
}

const Streams streams = pick_streams();

bool can_stream(CopyWay way) noexcept {
  return way == CopyWay::streamed && streams.plain != nullptr;
}

/// Bytes before the first whole line of a destination.
std::size_t head_of(const std::byte* to, std::size_t size) noexcept {
  const std::size_t astray = reinterpret_cast<std::uintptr_t>(to) % kLineBytes;
  return std::min(astray == 0 ? 0 : kLineBytes - astray, size);
}

void stream_bytes(std::byte* to, std::span<const std::byte> from) noexcept {
  const std::size_t head = head_of(to, from.size());
  std::memcpy(to, from.data(), head);
  const std::size_t lines = (from.size() - head) / kLineBytes;
  streams.plain(to + head, from.data() + head, lines);
  const std::size_t done = head + lines * kLineBytes;
  std::memcpy(to + done, from.data() + done, from.size() - done);
}

/// Delivers whole lines to an aligned place, and hashes them.
void stream_hashed(std::byte* to, std::span<const std::byte> from, std::span<std::byte> chunk,
                   ChecksumStream& sum) noexcept {
  for (std::size_t at = 0; at < from.size(); at += chunk.size()) {
    const std::size_t size = std::min(chunk.size(), from.size() - at);
    streams.keeping(to + at, chunk.data(), from.data() + at, size / kLineBytes);
    sum.add(chunk.first(size));
  }
}

void fence() noexcept {
  _mm_sfence();
}

#else

constexpr std::size_t kLineBytes = 64;
bool can_stream(CopyWay) noexcept {
  return false;
}
std::size_t head_of(const std::byte*, std::size_t) noexcept {
  return 0;
}
void stream_bytes(std::byte*, std::span<const std::byte>) noexcept {}
void stream_hashed(std::byte*, std::span<const std::byte>, std::span<std::byte>,
                   ChecksumStream&) noexcept {}
void fence() noexcept {}

#endif

/// Delivers what it read once, by way of `chunk`.
void copy_hashed(std::byte* to, std::span<const std::byte> from, std::span<std::byte> chunk,
                 ChecksumStream& sum) noexcept {
  for (std::size_t at = 0; at < from.size(); at += chunk.size()) {
    const std::size_t size = std::min(chunk.size(), from.size() - at);
    std::memcpy(chunk.data(), from.data() + at, size);
    sum.add(chunk.first(size));
    std::memcpy(to + at, chunk.data(), size);
  }
}

}  // namespace

void copy_bytes(std::byte* to, std::span<const std::byte> from, CopyWay way) noexcept {
  if (from.empty()) return;
  if (!can_stream(way)) {
    std::memcpy(to, from.data(), from.size());
    return;
  }
  stream_bytes(to, from);
  fence();
}

void copy_run(std::byte* to, std::span<const std::byte> from, CopyWay way) noexcept {
  if (from.size() >= kStreamedRunBytes && can_stream(way)) {
    stream_bytes(to, from);
  } else if (!from.empty()) {
    std::memcpy(to, from.data(), from.size());
  }
}

void fence_streams() noexcept {
  fence();
}

std::span<std::byte, HashedCopy::kChunkBytes> HashedCopy::chunk() noexcept {
  const std::size_t astray = reinterpret_cast<std::uintptr_t>(room_.data()) % kLineBytes;
  return std::span(room_).subspan(kLineBytes - astray).first<kChunkBytes>();
}

void HashedCopy::add(std::byte* to, std::span<const std::byte> from) noexcept {
  if (from.size() < kChunkBytes) return add_short(to, from);
  hash_kept();
  if (!can_stream(way_)) return copy_hashed(to, from, chunk(), sum_);
  const std::size_t head = head_of(to, from.size());
  const std::size_t middle = (from.size() - head) / kLineBytes * kLineBytes;
  copy_hashed(to, from.first(head), chunk(), sum_);
  stream_hashed(to + head, from.subspan(head, middle), chunk(), sum_);
  copy_hashed(to + head + middle, from.subspan(head + middle), chunk(), sum_);
}

void HashedCopy::add_short(std::byte* to, std::span<const std::byte> from) noexcept {
  while (!from.empty()) {
    const std::size_t size = std::min(from.size(), kChunkBytes - kept_);
    const std::span<std::byte> copy = chunk().subspan(kept_, size);
    const bool whole_lines = (kept_ | size) % kLineBytes == 0 && head_of(to, size) == 0;
    if (whole_lines && size >= kStreamedRunBytes && can_stream(way_)) {
      streams.keeping(to, copy.data(), from.data(), size / kLineBytes);
    } else {
      std::memcpy(copy.data(), from.data(), size);
      copy_run(to, copy, way_);
    }
    kept_ += size;
    if (kept_ == kChunkBytes) hash_kept();
    to += size;
    from = from.subspan(size);
  }
}

void HashedCopy::hash_kept() noexcept {
  if (kept_ != 0) sum_.add(chunk().first(kept_));
  kept_ = 0;
}

Checksum HashedCopy::finish() noexcept {
  hash_kept();
  fence();
  return sum_.finish();
}

}  // namespace membrain
