// Fetch: blocks of a match into the caller's memory, from whichever replicas there are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "cache/client/cancel_token.h"
#include "cache/client/fetch_exchange.h"
#include "cache/client/fetch_list.h"
#include "cache/client/match_state.h"
#include "cache/client/node_links.h"
#include "cache/client/source_choice.h"
#include "cache/client/window_read.h"
#include "membrain/client.h"
#include "membrain/result.h"
#include "transport/completion.h"
#include "transport/task.h"

namespace membrain {

/// What is fetched, and within which terms.
struct FetchJob {
  std::shared_ptr<const Match::State> match;
  FetchList items;
  TransferOptions options;
  std::shared_ptr<CancelToken> cancel;  ///< may be null
  wire::SessionProof proof;             ///< the session's own, for claims without a grant
  TimePoint deadline;
  std::uint32_t window = 4;
  bool verify = true;
  NodeWindows* windows = nullptr;  ///< to read by hardware what can be; may be null
};

/// One fetch under way. Items are grouped by the node of their best replica, one Fetch of up to
/// wire::kMaxFetchItems a group; what fails is grouped again by its next replica, until it has
/// been tried everywhere (at most wire::kMaxReplicas times). Groups run side by side. What a
/// node's window can serve is read through it first; the node is asked for the rest.
///
/// Errors  `invalid_argument` before anything moves, `cancelled` when it was taken back; else a
///         report, in which an item that failed says why its last replica did.
/// Threads The data loop only. Lives until `run` has ended.
/// Cost    Allocates a few lists for the operation and for each group; nothing for an item.
class Fetching {
 public:
  Fetching(NodeLinks& links, FetchJob job);

  Task<Result<TransferReport>> run();

 private:
  /// An item's way through its replicas.
  struct Course {
    std::span<const FoundReplica> replicas;
    const FoundReplica* chosen = nullptr;  ///< what is being tried
    std::size_t group = kNoGroup;          ///< of the launch under way
    std::size_t claim = 0;
    std::uint32_t length = 0;  ///< bytes
    TriedReplicas tried = 0;
    Errc why = Errc::not_found;  ///< the last replica's failure
  };
  /// What one Fetch asks one node for.
  struct Group {
    NodeId node;
    std::size_t claim = 0;
    std::size_t count = 0;
    std::vector<FetchTarget> targets;
  };
  class Round;
  static constexpr std::size_t kNoGroup = static_cast<std::size_t>(-1);

  Result<> plan();
  Result<> plan_item(std::size_t item);
  void launch(std::span<const std::uint32_t> items);
  bool choose(std::uint32_t item);
  [[nodiscard]] static std::size_t group_of(std::vector<Group>& groups, const Course& course);
  Task<> serve(Group group);
  Task<std::vector<FetchTarget>> read(Group group, Round& round);
  void add_bytes(std::uint64_t bytes, std::string_view lane);
  [[nodiscard]] FetchTarget target_of(std::uint32_t item) const;
  [[nodiscard]] FetchTerms terms_of(NodeId node, std::size_t claim) const;
  void cancel();
  void end(std::size_t item, const ItemOutcome& outcome);

  NodeLinks& links_;
  FetchJob job_;
  std::uint64_t salt_;  ///< of its choices among equal replicas
  std::vector<Course> courses_;
  std::vector<FetchExchange*> active_;
  std::vector<WindowRead*> reading_;
  Completion groups_;
  TransferReport report_;
  bool cancelled_ = false;
};

/// Bytes of an item; 0 if the lookup did not find it. `invalid_argument` for a block, part or range
/// that is not in the match, or pieces that do not add up to it.
[[nodiscard]] Result<std::uint32_t> wanted_bytes(const Match::State& match,
                                                 const WantedRange& asked) noexcept;

/// `Fetching(links, job).run()`, owned.
[[nodiscard]] Task<Result<TransferReport>> fetch_blocks(NodeLinks& links, FetchJob job);

}  // namespace membrain
