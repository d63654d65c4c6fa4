// Fetch: blocks of a match into the caller's memory, from whichever replicas there are.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
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

/// One fetch under way. Items are grouped by the node of their best source, one Fetch of up to
/// wire::kMaxFetchItems a group; what fails is grouped again by its next replica, until it has
/// been tried everywhere (at most wire::kMaxReplicas times) or the budget for retries is spent.
/// Groups run side by side. What a node's window can serve is read through it first; the node is
/// asked for the rest.
///
/// A node that is asked and is silent for longer than its lane's 95th percentile is *hedged*:
/// blocks with another replica are fetched from there too, into staging memory, within a budget.
/// Whichever copy is whole first is the caller's. If it is the staged one, the other is set aside
/// first, so that what still comes of it lands in staging; if that one has begun to land, the
/// staged copy waits for its outcome. If the node stays silent its blocks go elsewhere altogether.
///
/// Errors  `invalid_argument` before anything moves, `cancelled` when it was taken back; else a
///         report, in which an item that failed says why its last replica did.
/// Threads The data loop only. `run` ends when every item has; exchanges that have lost a race keep
///         it alive until they are drained.
/// Cost    Allocates a few lists for the operation and for each group; nothing for an item.
class Fetching : public std::enable_shared_from_this<Fetching> {
 public:
  Fetching(NodeLinks& links, FetchJob job);
  ~Fetching();
  Fetching(const Fetching&) = delete;
  Fetching& operator=(const Fetching&) = delete;

  Task<Result<TransferReport>> run();

 private:
  class Round;
  class HedgeRound;
  class Watch;
  /// Where a hedge brings an item.
  struct Copy {
    Piece memory;
    std::string_view lane;
  };
  /// An item's way through its replicas.
  struct Course {
    std::span<const FoundReplica> replicas;
    const FoundReplica* chosen = nullptr;  ///< what is being tried
    std::size_t group = kNoGroup;          ///< of the launch under way
    std::size_t claim = 0;
    std::uint32_t length = 0;        ///< bytes
    std::uint32_t tag = 0;           ///< of `asked`
    FetchExchange* asked = nullptr;  ///< brings it into the caller's memory
    HedgeRound* hedge = nullptr;     ///< brings it into staging
    Copy* copy = nullptr;            ///< its place there
    TriedReplicas tried = 0;
    bool staged = false;  ///< the copy is whole
    bool ended = false;
    Errc why = Errc::not_found;  ///< the last replica's failure
  };
  /// What one Fetch asks one node for.
  struct Group {
    NodeId node;
    std::size_t claim = 0;
    Breaker::Pass pass;
    std::size_t count = 0;
    std::vector<FetchTarget> targets;
  };
  /// A group's exchange, and who listens to it.
  struct Asking {
    FetchExchange* exchange;
    Round* round;
  };
  /// Likewise, of what a window has.
  struct Reading {
    WindowRead* read;
    Round* round;
  };
  /// Why items are sent somewhere.
  enum class Cause : std::uint8_t { first, answer, failure };
  static constexpr std::size_t kNoGroup = static_cast<std::size_t>(-1);

  Result<> plan();
  Result<> plan_item(std::size_t item);
  void launch(std::span<const std::uint32_t> items, Cause cause);
  [[nodiscard]] bool choose(std::uint32_t item, std::vector<Group>& groups);
  void drop(std::span<const std::uint32_t> items, Group& group, std::size_t index);
  using Views = std::array<SourceView, wire::kMaxReplicas>;
  void look_at(const Course& course, Views& views) const;
  [[nodiscard]] std::optional<std::size_t> best_of(std::uint32_t item, const Views& views) const;
  [[nodiscard]] static std::size_t group_of(std::vector<Group>& groups, NodeId node,
                                            std::size_t claim);
  Task<> serve(std::shared_ptr<Fetching> self, Group group);
  Task<std::vector<FetchTarget>> read(Group group, Round& round);
  Task<Cause> ask(FetchTerms terms, Breaker::Pass pass, std::vector<FetchTarget> targets,
                  Round& round);
  void judge(const FetchExchange& exchange, NodeId node, Breaker::Pass pass, bool gave_up);
  void add_bytes(std::uint64_t bytes, std::string_view lane);
  [[nodiscard]] FetchTarget target_of(std::uint32_t item, const FoundReplica& source) const;
  [[nodiscard]] FetchTerms terms_of(NodeId node, std::size_t claim) const;
  void cancel();
  /// Nothing else is to be tried for an item that failed so. A node that stops, or gives a fetch
  /// less time than its client does, says `timed_out` before the deadline: a failure like others.
  [[nodiscard]] bool is_over(Errc why) const noexcept {
    return why == Errc::cancelled ||
           (why == Errc::timed_out && links_.loop().now() >= job_.deadline);
  }
  void end(std::uint32_t item, const ItemOutcome& outcome);

  // Hedging: fetch_hedge.cc.
  void hedge(const FetchExchange& exchange);
  [[nodiscard]] std::optional<std::size_t> other_source(std::uint32_t item) const;
  [[nodiscard]] bool could_move(const FetchExchange& exchange) const;
  Task<> serve_hedge(std::shared_ptr<Fetching> self, Group group, HedgeRound& round);
  void staged(std::uint32_t item, std::string_view lane);
  void deliver(std::uint32_t item);
  void ask_there_again(std::span<const std::uint32_t> items);

  NodeLinks& links_;
  FetchJob job_;
  std::uint64_t salt_;  ///< of its choices among equal replicas
  std::vector<Course> courses_;
  std::vector<Asking> active_;
  std::vector<FetchExchange*> hedging_;
  std::vector<Reading> reading_;
  std::vector<std::unique_ptr<HedgeRound>> hedges_;  ///< with their staging memory
  std::uint64_t staged_bytes_ = 0;
  Completion items_;  ///< that have not ended
  TransferReport report_;
  bool cancelled_ = false;
};

/// Bytes of an item; 0 if the lookup did not find it. `invalid_argument` for a block, part or range
/// that is not in the match, or pieces that do not add up to it.
[[nodiscard]] Result<std::uint32_t> wanted_bytes(const Match::State& match,
                                                 const WantedRange& asked) noexcept;

/// `Fetching::run`, owned.
[[nodiscard]] Task<Result<TransferReport>> fetch_blocks(NodeLinks& links, FetchJob job);

}  // namespace membrain
