// A shard leader's term: what it begins with, and what it rests on.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "base/clock.h"
#include "base/ids.h"
#include "membrain/result.h"
#include "protocol/shard_map.h"
#include "transport/task.h"

namespace membrain {

using Eras = std::unordered_map<NamespaceId, Era>;

struct Term {
  Epoch epoch;                    ///< later than any before
  bool first = true;              ///< nobody has led this shard before
  Eras eras;                      ///< of namespaces that were cleared; 1 for all others
  KeyRange range;                 ///< which keys are this shard's, for as long as the term lasts
  std::uint32_t map_version = 1;  ///< of the map that says so
};

/// Threads  The shard's loop.
class Tenure {
 public:
  virtual ~Tenure() = default;
  /// Whether its lease stands by `now`, as far as this process can know. Nobody else leads then,
  /// unless somebody took this process for dead and ended its lease: nodes and clients that have
  /// heard of the later epoch do not listen to it any more.
  [[nodiscard]] virtual bool holds(TimePoint now) const noexcept = 0;
  /// Keeps the era for every later term; `unavailable` if `epoch` does not lead any more.
  virtual Task<Result<>> set_era(Epoch epoch, NamespaceId space, Era era) = 0;
};

/// Terms of a shard that nobody else wants, kept in memory: for tests and benchmarks.
class LoneTenure final : public Tenure {
 public:
  [[nodiscard]] Term next_term() {
    ++epoch_.value;
    return {epoch_, epoch_.value == 1, eras_, {}, 1};
  }
  [[nodiscard]] bool holds(TimePoint) const noexcept override { return true; }
  Task<Result<>> set_era(Epoch, NamespaceId space, Era era) override {
    eras_[space] = era;
    co_return Result<>{};
  }

 private:
  Epoch epoch_;
  Eras eras_;
};

}  // namespace membrain
