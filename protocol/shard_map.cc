#include "protocol/shard_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <set>
#include <utility>

namespace membrain {

namespace {

constexpr int kHex = 16;

/// Takes a number and the character behind it (the end counts as a blank) off the text.
template <class Number>
bool take(std::string_view& text, Number& number, int base, char behind) {
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (read.ec != std::errc{}) return false;
  text.remove_prefix(static_cast<std::size_t>(read.ptr - text.data()));
  if (text.empty()) return behind == ' ';
  if (text.front() != behind) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

ShardMap ShardMap::equal(std::size_t count) {
  std::vector<Place> places;
  const std::uint64_t width = count <= 1 ? 0 : UINT64_MAX / count + 1;
  for (std::size_t i = 0; i < std::max<std::size_t>(count, 1); ++i) {
    places.push_back({width * i, ShardId{static_cast<std::uint32_t>(i)}});
  }
  return ShardMap(1, std::move(places));
}

Result<ShardMap> ShardMap::checked(std::uint32_t version, std::vector<Place> places) {
  if (places.empty() || places.front().first != 0) {
    return fail(Errc::corrupt, "a map of shards does not begin at the first key");
  }
  if (places.size() > wire::kMaxShards) return fail(Errc::out_of_capacity, "too many shards");
  std::set<ShardId> named;
  for (std::size_t i = 0; i < places.size(); ++i) {
    const bool rises = i == 0 || places[i].first > places[i - 1].first;
    if (!rises || !named.insert(places[i].shard).second) {
      return fail(Errc::corrupt, "a map of shards names a range or a shard twice");
    }
  }
  return ShardMap(version, std::move(places));
}

Result<ShardMap> ShardMap::from(const wire::ShardList& list) {
  std::vector<Place> places;
  for (const wire::ShardEntry& entry : list.shards) places.push_back({entry.first, entry.shard});
  return checked(list.version, std::move(places));
}

Result<ShardMap> ShardMap::parse(std::string_view text) {
  std::uint32_t version = 0;
  std::vector<Place> places;
  bool fine = take(text, version, 10, ' ');
  while (fine && !text.empty()) {
    Place place;
    fine = take(text, place.first, kHex, ':') && take(text, place.shard.value, 10, ' ');
    places.push_back(place);
  }
  if (!fine) return fail(Errc::corrupt, "this is no map of shards");
  return checked(version, std::move(places));
}

std::string ShardMap::text() const {
  std::string text = std::to_string(version_);
  for (const Place& place : places_) {
    text += fmt::format(" {:x}:{}", place.first, place.shard.value);
  }
  return text;
}

KeyRange ShardMap::range(std::size_t index) const noexcept {
  const bool last = index + 1 == places_.size();
  return {places_[index].first, last ? UINT64_MAX : places_[index + 1].first - 1};
}

std::size_t ShardMap::index_of(const BlockKey& key) const noexcept {
  const auto behind =
      std::upper_bound(places_.begin(), places_.end(), key.high,
                       [](std::uint64_t high, const Place& place) { return high < place.first; });
  return static_cast<std::size_t>(behind - places_.begin()) - 1;
}

std::size_t ShardMap::index_of(ShardId shard) const noexcept {
  const auto found = std::find_if(places_.begin(), places_.end(),
                                  [&](const Place& place) { return place.shard == shard; });
  return static_cast<std::size_t>(found - places_.begin());
}

Result<ShardMap> ShardMap::split(ShardId shard, ShardId fresh) const {
  const std::size_t index = index_of(shard);
  if (index == count()) return fail(Errc::not_found, "there is no such shard");
  if (index_of(fresh) != count())
    return fail(Errc::invalid_argument, "that shard is there already");
  const KeyRange whole = range(index);
  const std::uint64_t width = whole.last - whole.first;
  if (width == 0) return fail(Errc::invalid_argument, "this shard is too small to be split");
  if (version_ == UINT32_MAX) return fail(Errc::out_of_capacity, "no map comes after this one");
  std::vector<Place> places = places_;
  places.insert(places.begin() + static_cast<std::ptrdiff_t>(index) + 1,
                {whole.first + width / 2 + 1, fresh});
  return checked(version_ + 1, std::move(places));
}

}  // namespace membrain
