// How messages write and read their lists. For messages.cc and slot_messages.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "base/codec.h"
#include "protocol/messages.h"

namespace membrain::wire {

/// A u32 count, then the things.
template <class T, class Put>
void put_list(Writer& out, const std::vector<T>& list, Put put) {
  out.put(static_cast<std::uint32_t>(list.size()));
  for (const T& item : list) put(item);
}

/// Reads a list of at most `max_count` things of at least `min_bytes` each.
template <class T, class Get>
void get_list(Reader& in, std::vector<T>& list, std::size_t max_count, std::size_t min_bytes,
              Get get) {
  const std::size_t count = in.count(max_count, min_bytes);
  list.clear();
  list.reserve(count);
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    T item{};
    get(item);
    list.push_back(std::move(item));
  }
}

/// Lists of what lies in memory as it lies on the wire.
template <class T>
void put_plain(Writer& out, const std::vector<T>& list) {
  out.put(static_cast<std::uint32_t>(list.size()));
  out.raw(list.data(), list.size() * sizeof(T));
}

template <class T>
void get_plain(Reader& in, std::vector<T>& list, std::size_t max_count) {
  list.resize(in.count(max_count, sizeof(T)));
  in.raw(list.data(), list.size() * sizeof(T));
}

inline void put_keys(Writer& out, const std::vector<BlockKey>& keys) {
  static_assert(kAsOnWire<BlockKey>);
  put_plain(out, keys);
}

inline void get_keys(Reader& in, std::vector<BlockKey>& keys) {
  get_plain(in, keys, kMaxKeys);
}

inline constexpr std::size_t kFoundLocationBytes = 7 + sizeof(Location);

/// Thousands of them may be in one message, so they are written with one check for all.
inline void put_locations(Writer& out, const std::vector<FoundLocation>& locations) {
  out.put(static_cast<std::uint32_t>(locations.size()));
  std::byte* to = out.extend(locations.size() * kFoundLocationBytes);
  for (const FoundLocation& found : locations) {
    std::memcpy(to, &found.block, 4);
    std::memcpy(to + 4, &found.part, 2);
    std::memcpy(to + 6, &found.tier, 1);
    std::memcpy(to + 7, &found.at, sizeof found.at);
    to += kFoundLocationBytes;
  }
}

inline void get_locations(Reader& in, std::vector<FoundLocation>& locations) {
  locations.resize(in.count(kMaxLocations, kFoundLocationBytes));
  const std::byte* from = in.take(locations.size() * kFoundLocationBytes);
  if (from == nullptr) return locations.clear();
  for (FoundLocation& found : locations) {
    std::memcpy(&found.block, from, 4);
    std::memcpy(&found.part, from + 4, 2);
    std::memcpy(&found.tier, from + 6, 1);
    std::memcpy(&found.at, from + 7, sizeof found.at);
    from += kFoundLocationBytes;
    if (found.tier > kLastTier) in.spoil();
  }
}

inline constexpr std::size_t kSlotRefBytes = 12;

inline void put_slots(Writer& out, const std::vector<SlotRef>& slots) {
  put_list(out, slots, [&](const SlotRef& at) { out.put(at.slot), out.put(at.generation); });
}

inline void get_slots(Reader& in, std::vector<SlotRef>& slots,
                      std::size_t max_count = kMaxFreeItems) {
  get_list(in, slots, max_count, kSlotRefBytes,
           [&](SlotRef& at) { in.get(at.slot), in.get(at.generation); });
}

}  // namespace membrain::wire
