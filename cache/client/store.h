// Store: blocks from the caller's memory to the nodes that keep them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/key.h"
#include "cache/client/cancel_token.h"
#include "cache/client/node_links.h"
#include "cache/client/store_exchange.h"
#include "membrain/client.h"
#include "membrain/result.h"
#include "transport/completion.h"
#include "transport/task.h"

namespace membrain {

/// What is stored, and within which terms.
struct StoreJob {
  OpenedNamespace space;
  std::shared_ptr<const KeyMaker> keys;
  std::vector<StoreItem> items;
  TransferOptions options;
  std::shared_ptr<CancelToken> cancel;  ///< may be null
  wire::SessionProof proof;
  TimePoint deadline;
};

/// One store under way. A block of kAloneBytes or more travels alone, smaller ones in batches of up
/// to kBatchBytes; kWindow messages are under way to a node at once. A node that cannot be reached,
/// or is lost on the way, is replaced by another one, once.
///
/// Errors  `invalid_argument` before anything moves, `cancelled` when it was taken back; else a
///         report. An item is reported when its memory is the caller's again.
/// Threads The data loop only. Lives until `run` has ended.
class Storing {
 public:
  static constexpr std::uint64_t kAloneBytes = 128 * 1024;
  static constexpr std::uint64_t kBatchBytes = 1024 * 1024;
  static constexpr std::size_t kWindow = 4;

  Storing(NodeLinks& links, StoreJob job);

  Task<Result<TransferReport>> run();

 private:
  using Batch = std::vector<std::size_t>;  ///< items of one message
  /// Batches for one node that wait for their turn. Shared by the node's workers.
  struct Lane {
    NodeId node;
    std::deque<Batch> batches;
  };

  Result<> plan();
  void launch(const std::vector<std::size_t>& items, NodeId avoid);
  Task<> work(std::shared_ptr<Lane> lane);
  Task<> store_batch(NodeId node, Batch batch);
  void settle(NodeId node, const Batch& batch, const StoreAnswer& answer);
  [[nodiscard]] std::deque<Batch> batches_of(const std::vector<std::size_t>& items) const;
  [[nodiscard]] wire::Store message_of(const Batch& batch) const;
  [[nodiscard]] BlockKey key_of(std::size_t item) const;
  void cancel();
  void end(std::size_t item, const ItemOutcome& outcome);

  NodeLinks& links_;
  StoreJob job_;
  std::vector<std::uint32_t> lengths_;  ///< bytes by item
  std::vector<bool> moved_;             ///< by item: it is on its second node
  std::list<StoreExchange*> active_;
  Completion workers_;
  TransferReport report_;
  bool cancelled_ = false;
};

/// `Storing(links, job).run()`, owned.
[[nodiscard]] Task<Result<TransferReport>> store_blocks(NodeLinks& links, StoreJob job);

}  // namespace membrain
