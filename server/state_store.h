// What a shard must still know after a restart: its epoch, and the eras of cleared namespaces.
#pragma once

#include <unordered_map>

#include "base/ids.h"
#include "membrain/result.h"

namespace membrain {

/// Small state that outlives the process. One user at a time.
class StateStore {
 public:
  virtual ~StateStore() = default;
  /// Begins the next epoch (the first is 1), which is on disk when it returns. Once for each start
  /// of a server, before it listens.
  virtual Result<Epoch> begin_epoch() = 0;
  /// The epoch begun last; 0 before the first.
  [[nodiscard]] virtual Epoch epoch() const noexcept = 0;
  /// The current era of a namespace; 1 if it was never cleared.
  [[nodiscard]] virtual Era era_of(NamespaceId space) const noexcept = 0;
  /// Is on disk when it returns without an error; with one, nothing has changed.
  virtual Result<> set_era(NamespaceId space, Era era) = 0;
};

/// Keeps it in memory: for tests, the simulator, and servers that need not remember.
class MemoryStateStore final : public StateStore {
 public:
  Result<Epoch> begin_epoch() override {
    ++epoch_.value;
    return epoch_;
  }
  [[nodiscard]] Epoch epoch() const noexcept override { return epoch_; }
  [[nodiscard]] Era era_of(NamespaceId space) const noexcept override {
    const auto found = eras_.find(space);
    return found == eras_.end() ? Era{1} : found->second;
  }
  Result<> set_era(NamespaceId space, Era era) override {
    eras_[space] = era;
    return {};
  }

 private:
  Epoch epoch_;
  std::unordered_map<NamespaceId, Era> eras_;
};

}  // namespace membrain
