// Stores that nobody waits for: a bounded queue behind the foreground's fetches.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include "base/clock.h"
#include "cache/client/cancel_token.h"
#include "cache/client/store_list.h"
#include "membrain/client.h"
#include "membrain/result.h"
#include "transport/loop.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

/// One offer: blocks in the caller's memory, lent until `done` is called on the data loop, once.
struct StoreOffer {
  std::uint64_t id = 0;
  OpenedNamespace space;
  StoreList list;
  PieceMemory memory;
  std::function<void(const TransferReport&)> done;  ///< may be null
  std::uint64_t bytes = 0;
};

/// Offers are taken in if they fit, else shed at once; stored in their order, a chunk of at most
/// kChunkBytes (or one block) at a time. Before each chunk it stands aside while fetches are under
/// way, for at most kStandAside. At `close` the chunk under way ends, and the rest is given back as
/// `cancelled`.
///
/// Ownership  The loop and whatever `store` needs outlive it. Nothing runs when it is destroyed.
/// Threads    `admit`, `stats`: any. The rest: the data loop.
class BackgroundStore {
 public:
  static constexpr std::uint64_t kChunkBytes = std::uint64_t{2} << 20;
  static constexpr std::size_t kMaxItems = 65536;  ///< waiting
  static constexpr Duration kStandAside = std::chrono::milliseconds(5);

  using Store = std::function<Task<Result<TransferReport>>(OpenedNamespace space, StoreList list,
                                                           PieceMemory memory,
                                                           std::shared_ptr<CancelToken> cancel)>;

  /// `busy`: the foreground fetches. `on_idle` is called when nothing runs any more.
  BackgroundStore(Loop& loop, std::uint64_t max_bytes, Store store, std::function<bool()> busy,
                  std::function<void()> on_idle);
  ~BackgroundStore();
  BackgroundStore(const BackgroundStore&) = delete;
  BackgroundStore& operator=(const BackgroundStore&) = delete;

  /// Makes room for it, and gives it its id. `out_of_capacity`: shed. What was admitted is handed
  /// to `take`, or given up with `refuse`.
  Result<> admit(StoreOffer& offer);
  /// It could not be handed over after all: shed.
  void refuse(const StoreOffer& offer) noexcept;
  [[nodiscard]] BackgroundStats stats() const noexcept;

  void take(StoreOffer offer);
  /// Gives an offer back, if it has not ended: its items that are not stored are `cancelled`.
  void withdraw(std::uint64_t id);
  /// A fetch has ended: perhaps nobody stands in the way any more.
  void fetch_ended() noexcept { aside_.raise(); }
  void close();
  [[nodiscard]] bool idle() const noexcept { return !running_; }

 private:
  Task<> run();
  Task<> store(StoreOffer offer);
  Task<> stand_aside();
  /// The items from `from` on that go together.
  [[nodiscard]] static StoreList next_chunk(StoreList& list, std::size_t from);
  void give_back(const StoreOffer& offer, const TransferReport& report);

  Loop& loop_;
  const std::uint64_t max_bytes_;
  const Store store_;
  const std::function<bool()> busy_;
  const std::function<void()> on_idle_;

  std::deque<StoreOffer> queue_;
  std::uint64_t current_ = 0;  ///< the offer that is being stored
  std::shared_ptr<CancelToken> cancel_;
  Signal aside_;
  Timer aside_timer_;
  bool running_ = false;
  bool closed_ = false;

  std::atomic<std::uint64_t> next_id_{1};
  std::atomic<std::uint64_t> queued_bytes_{0}, queued_items_{0};  ///< admitted, not given back
  std::atomic<std::uint64_t> stored_{0}, duplicates_{0}, shed_{0}, failed_{0};  ///< items
};

}  // namespace membrain
