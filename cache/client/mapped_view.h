// What a View is made of.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/ids.h"
#include "cache/client/mapped_arena.h"
#include "cache/client/mapped_nodes.h"
#include "cache/client/match_state.h"
#include "membrain/client.h"
#include "membrain/result.h"
#include "membrain/view.h"

namespace membrain {

namespace detail {

/// A range of a part that a mapped arena holds.
struct ViewedPart {
  const ArenaSet::Arena* arena = nullptr;
  Location at;
  std::span<const std::byte> bytes;
  bool verify = false;
};

}  // namespace detail

/// Views of all `items` (their pieces are not looked at), or of none: `invalid_argument` for a
/// range outside a block, or of a match that pins nothing; `not_found` for a block that was not
/// found; `unavailable` if one is not mapped, or its slot has changed.
[[nodiscard]] Result<std::vector<View>> view_mapped(const Match::State& match,
                                                    std::span<const FetchItem> items,
                                                    const ArenaSet& arenas, bool verify);

}  // namespace membrain
