// An engine of a simulated cluster: prompts that share prefixes, looked up, fetched, checked and
// stored.
#pragma once

#include <bitset>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "cache/client/mapped_fetch.h"
#include "membrain/client.h"
#include "protocol/messages.h"
#include "tests/sim/cluster.h"
#include "tests/sim/ledger.h"

namespace membrain::sim {

/// The namespace of every engine.
[[nodiscard]] Namespace shared_namespace();

/// Of the replicas that an answer names, by their places there.
using ReplicaSet = std::bitset<wire::kMaxReplicas>;

/// What the leader of a block's shard owes its holder (`Holdings`).
struct Promise {
  Epoch in;             ///< the term in which it was last seen to keep the block pinned, or none
  ReplicaSet replicas;  ///< that it knew while it did
};

/// A match that an engine holds, and what is promised of each of its blocks.
struct HeldMatch {
  Match match;
  std::uint64_t conversation;
  std::vector<Promise> promises;
};

/// Drives one life of a client until it is told to rest or is doomed.
///
/// A prompt is one of a few conversations cut at a random length, so that prefixes are shared, the
/// arena is too small for all, and blocks are evicted while others hold pins.
class Engine {
 public:
  /// Speaks of what nobody has stored yet.
  void change_topic() noexcept { topic_ = kNewTopic; }

  Engine(Cluster& cluster, std::shared_ptr<ClientLife> life, Ledger& ledger, double clear) noexcept;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Works until `rest` or `doom`; keeps what it holds.
  Task<> live();
  /// Finishes the prompt at hand and starts no other.
  void rest() noexcept { resting_ = true; }
  /// Its process was killed: ends as soon as its operations have.
  void doom() noexcept { resting_ = true; }
  [[nodiscard]] bool ended() const noexcept { return ended_; }
  /// The cluster has let go of its life: nothing of it runs any more.
  [[nodiscard]] bool buried() const noexcept { return life_.use_count() == 1; }
  /// It never got a session: its life is of no use.
  [[nodiscard]] bool failed() const noexcept { return failed_; }

  /// Blocks pinned by matches that it holds.
  [[nodiscard]] std::uint64_t held_blocks() const;
  [[nodiscard]] std::vector<LookupId> held_lookups() const;
  /// The same, for people.
  [[nodiscard]] std::string held() const;
  void release_all() noexcept { held_.clear(); }
  [[nodiscard]] std::deque<HeldMatch>& held_matches() noexcept { return held_; }
  /// Its fetches are under way.
  [[nodiscard]] bool reading() const noexcept { return reading_; }
  /// Which client's life this is, as its sessions say.
  [[nodiscard]] const std::string& name() const noexcept { return life_->name; }

  static constexpr std::uint64_t kConversations = 5;
  static constexpr std::uint32_t kLongest = 7;  ///< blocks of a prompt
  [[nodiscard]] static std::uint64_t block_id(std::uint64_t conversation, std::uint32_t depth);
  /// The same for every tenant, as equal prompts have equal hashes.
  [[nodiscard]] static BlockHash hash_of(std::uint64_t block);
  /// Mixed sizes: whole pages and odd ones.
  [[nodiscard]] static std::size_t size_of(std::uint64_t block);

 private:
  static constexpr std::uint64_t kNewTopic = 1000;
  static constexpr std::uint64_t kOfOneTenant = 1'000'000'000;  ///< contents
  std::uint64_t topic_ = 0;

  Task<Result<>> open();
  Task<Result<>> enter();
  Task<> prompt();
  Task<> fetch_prefix(const Match& match, std::uint64_t conversation);
  /// The checked way, or, as far as blocks are mapped, by copying.
  Task<Result<TransferReport>> fetch(const Match& match, std::vector<FetchItem> items);
  Task<Result<TransferReport>> fetch_mixed(const Match& match, FetchList items, MappedPlan plan);
  Task<> fetch_rest(std::shared_ptr<const Match::State> match, FetchList items,
                    TransferOptions options, MixedFetch::Reported reported);
  /// Reads blocks in place, with other events in between.
  Task<> view_prefix(const Match& match, std::uint64_t conversation);
  /// S5: what it was told of is of its own namespace, and what it was told.
  void check_answer(const Match& match);
  /// S1 and S5: what somebody says is the block.
  void check_bytes(std::uint64_t block, std::span<const std::byte> bytes, const char* what);
  [[nodiscard]] std::uint64_t content_id(std::uint64_t block, std::size_t tenant) const noexcept {
    return block + tenant * kOfOneTenant;
  }
  void note_shared_prefix(std::uint64_t conversation);
  Task<> store_rest(std::uint64_t conversation, std::uint32_t from, std::uint32_t to);
  Task<> clear_all();
  Task<> clear();
  [[nodiscard]] std::uint64_t draw(std::uint64_t below) { return cluster_.random().below(below); }

  Cluster& cluster_;
  std::shared_ptr<ClientLife> life_;
  Ledger& ledger_;
  double clear_;
  OpenedNamespace space_;
  std::deque<HeldMatch> held_;
  bool resting_ = false;
  bool ended_ = false;
  bool failed_ = false;
  bool reading_ = false;
};

}  // namespace membrain::sim
