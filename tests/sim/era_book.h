// Era book: the era that each part of the key space has come to.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>

#include "base/ids.h"
#include "protocol/shard_map.h"

namespace membrain::sim {

/// Follows one namespace through terms, moves and splits of shards.
class EraBook {
 public:
  /// A leader of that range has come to `era`. False if the range was in a later one before.
  bool note(const KeyRange& range, Era era) {
    cut(range.first);
    if (range.last != UINT64_MAX) cut(range.last + 1);
    bool sound = true;
    for (auto at = eras_.find(range.first); at != eras_.end() && at->first <= range.last; ++at) {
      sound = sound && at->second <= era;
      at->second = era;
    }
    return sound;
  }

 private:
  /// A piece begins there.
  void cut(std::uint64_t first) {
    eras_.emplace(first, std::prev(eras_.upper_bound(first))->second);
  }

  std::map<std::uint64_t, Era> eras_{{0, Era{}}};  ///< of pieces, by their first
};

}  // namespace membrain::sim
