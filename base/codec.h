// Bounded little-endian encoding. A reader never looks past its input and never allocates more than
// a bound that the caller names; after the first failure every read yields zero and `ok()` stays
// false, so decoders read straight through and check once.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/ids.h"

static_assert(std::endian::native == std::endian::little,
              "the wire is little-endian and so are we");

namespace membrain {

/// Values that lie in memory as they lie on the wire: copied whole, and lists of them at once.
template <class T>
inline constexpr bool kAsOnWire = false;
template <>
inline constexpr bool kAsOnWire<BlockKey> = sizeof(BlockKey) == 16;
template <>
inline constexpr bool kAsOnWire<Checksum> = sizeof(Checksum) == 16;
template <>
inline constexpr bool kAsOnWire<Location> = sizeof(Location) == 40;
static_assert(kAsOnWire<BlockKey> && kAsOnWire<Checksum> && kAsOnWire<Location>);

/// Appends fields to a byte vector that it does not own.
class Writer {
 public:
  explicit Writer(std::vector<std::byte>& out) noexcept : out_(out) {}

  template <std::integral T>
  void put(T value) {
    raw(&value, sizeof value);
  }
  template <class E>
    requires std::is_enum_v<E>
  void put(E value) {
    put(static_cast<std::underlying_type_t<E>>(value));
  }
  template <class Tag, class Int>
  void put(Id<Tag, Int> id) {
    put(id.value);
  }
  void put(const BlockKey& key) { raw(&key, sizeof key); }
  void put(const Checksum& sum) { raw(&sum, sizeof sum); }
  void put(const Location& at) { raw(&at, sizeof at); }
  template <std::size_t N>
  void put(const std::array<std::byte, N>& bytes) {
    raw(bytes.data(), N);
  }
  /// A u16 length, then the bytes. Longer text is cut: callers bound it before.
  void put(std::string_view text) {
    const auto size = static_cast<std::uint16_t>(std::min<std::size_t>(text.size(), 0xffff));
    put(size);
    raw(text.data(), size);
  }
  void raw(const void* data, std::size_t size) {
    std::byte* to = extend(size);
    if (size != 0) std::memcpy(to, data, size);
  }
  /// Room for `size` bytes more, for whoever writes many fields at once. Valid until the next put.
  [[nodiscard]] std::byte* extend(std::size_t size) {
    // Not insert: g++ 12 warns of overflows there at -O3 that are none.
    const std::size_t at = out_.size();
    out_.resize(at + size);
    return out_.data() + at;
  }
  [[nodiscard]] std::size_t size() const noexcept { return out_.size(); }

 private:
  std::vector<std::byte>& out_;
};

/// Takes fields from bytes that it does not own.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> in) noexcept : in_(in) {}

  [[nodiscard]] bool ok() const noexcept { return ok_; }
  [[nodiscard]] std::size_t left() const noexcept { return in_.size(); }
  void spoil() noexcept { ok_ = false, in_ = {}; }

  template <std::integral T>
  void get(T& value) noexcept {
    raw(&value, sizeof value);
  }
  /// An enumerator up to `last`; anything above spoils the reader.
  template <class E>
    requires std::is_enum_v<E>
  void get(E& value, E last) noexcept {
    std::underlying_type_t<E> number{};
    get(number);
    if (number > static_cast<std::underlying_type_t<E>>(last)) return spoil();
    value = static_cast<E>(number);
  }
  template <class Tag, class Int>
  void get(Id<Tag, Int>& id) noexcept {
    get(id.value);
  }
  void get(BlockKey& key) noexcept { raw(&key, sizeof key); }
  void get(Checksum& sum) noexcept { raw(&sum, sizeof sum); }
  void get(Location& at) noexcept { raw(&at, sizeof at); }
  template <std::size_t N>
  void get(std::array<std::byte, N>& bytes) noexcept {
    raw(bytes.data(), N);
  }
  /// Text of at most `max_bytes`; longer spoils the reader.
  void get(std::string& text, std::size_t max_bytes) {
    std::uint16_t size = 0;
    get(size);
    if (size > max_bytes || size > in_.size()) return spoil();
    text.assign(reinterpret_cast<const char*>(in_.data()), size);
    in_ = in_.subspan(size);
  }
  /// A u32 count of at most `max_count` things that take at least `min_bytes` each: 0, and spoiled,
  /// if the rest of the input cannot hold that many. Sizes a vector safely.
  [[nodiscard]] std::size_t count(std::size_t max_count, std::size_t min_bytes) noexcept {
    std::uint32_t number = 0;
    get(number);
    if (number > max_count || number * min_bytes > in_.size()) {
      spoil();
      return 0;
    }
    return number;
  }
  void raw(void* to, std::size_t size) noexcept {
    if (size == 0) return;
    if (const std::byte* from = take(size)) {
      std::memcpy(to, from, size);
    } else {
      std::memset(to, 0, size);
    }
  }
  /// The next `size` bytes, for whoever reads many fields at once; null, and spoiled, if there are
  /// fewer.
  [[nodiscard]] const std::byte* take(std::size_t size) noexcept {
    if (size > in_.size()) {
      spoil();
      return nullptr;
    }
    const std::byte* from = in_.data();
    in_ = in_.subspan(size);
    return from;
  }

 private:
  std::span<const std::byte> in_;
  bool ok_ = true;
};

}  // namespace membrain
