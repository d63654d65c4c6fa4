#include "tools/torture_faults.h"

#include <algorithm>
#include <map>
#include <utility>

#include "protocol/proofs.h"

namespace membrain {
namespace {

constexpr std::string_view kTenant = "default";  ///< engines name none

TimePoint now_on_clock() {
  return SteadyClock().now();
}

}  // namespace

const std::vector<TortureFaults::Kind>& TortureFaults::kinds() {
  using std::chrono::milliseconds;
  using F = TortureFaults;
  using Effect = Kind::Effect;
  // A lease lasts 3 s, a node's or a session's silence 5 and 10 s: stops last less and longer.
  static const std::vector<Kind> kKinds{
      {"node killed", &F::kill_node, &F::start_victim, milliseconds(100), milliseconds(2000),
       Effect::ends_pins},
      {"node stopped", &F::stop_node, &F::wake_victim, milliseconds(500), milliseconds(8000),
       Effect::ends_pins},
      {"leader killed", &F::kill_leader, &F::start_victim, milliseconds(100), milliseconds(3000),
       Effect::hides},
      {"leader stopped", &F::stop_leader, &F::wake_victim, milliseconds(500), milliseconds(6000),
       Effect::hides},
      {"follower killed", &F::kill_follower, &F::start_victim, milliseconds(100),
       milliseconds(1000), Effect::hides, true, true},
      {"engine killed", &F::kill_engine, &F::start_engine, milliseconds(0), milliseconds(500),
       Effect::none},
      {"engine stopped", &F::stop_engine, &F::wake_engine, milliseconds(500), milliseconds(14000),
       Effect::none},
      {"etcd member killed", &F::kill_member, &F::start_victim, milliseconds(200),
       milliseconds(3000), Effect::hides, true},
      {"etcd member stopped", &F::stop_member, &F::wake_victim, milliseconds(200),
       milliseconds(5000), Effect::hides, true},
      {"etcd without quorum", &F::lose_quorum, &F::start_members, milliseconds(1000),
       milliseconds(7000), Effect::hides, true},
      {"bytes spoiled", &F::spoil_bytes, &F::nothing, milliseconds(100), milliseconds(500),
       Effect::none}};
  return kKinds;
}

TortureFaults::TortureFaults(TortureHouse& house, TortureLoad& load, HistoryBook& book,
                             TortureWatch& watch, TortureReport& report, TortureBlocks blocks,
                             std::uint64_t seed)
    : house_(house),
      load_(load),
      book_(book),
      watch_(watch),
      report_(report),
      blocks_(blocks),
      random_(seed) {
  const Digest tenant = tenant_key(house.secret(), kTenant);
  for (std::uint32_t space = 0; space < TortureBlocks::kSpaces; ++space) {
    Namespace named = blocks_.space_of(space);
    named.tenant = kTenant;
    keys_.emplace_back(digest_of(named), tenant);
  }
}

/// Every kind once, in another order each time.
void TortureFaults::shuffle() {
  for (const Kind& kind : kinds()) {
    const bool can = (!kind.needs_etcd || !house_.members().empty()) &&
                     (!kind.needs_followers || house_.servers().size() > 1);
    if (can) coming_.push_back(&kind);
  }
  for (std::size_t i = coming_.size(); i > 1; --i) std::swap(coming_[i - 1], coming_[draw(i)]);
}

std::chrono::milliseconds TortureFaults::begin() {
  if (coming_.empty()) shuffle();
  kind_ = coming_.back();
  coming_.pop_back();
  began_ = now_on_clock();
  if (!(this->*kind_->begin)()) {
    kind_ = nullptr;
    return {};
  }
  ++report_.faults[std::string(kind_->name)];
  const auto more = static_cast<std::size_t>((kind_->longest - kind_->shortest).count());
  return kind_->shortest + std::chrono::milliseconds(draw(more + 1));
}

Outcome<> TortureFaults::heal() {
  return kind_ == nullptr ? Outcome<>{} : (this->*kind_->heal)();
}

void TortureFaults::over(TimePoint now) {
  if (kind_ == nullptr || kind_->effect == Kind::Effect::none) return;
  book_.disturbed({began_.time_since_epoch().count(),
                   (now + TortureWatch::kAfter).time_since_epoch().count(),
                   kind_->effect == Kind::Effect::ends_pins});
}

// ---- what is done, and what ends it

bool TortureFaults::kill(Resident& victim) {
  victim_ = &victim;
  victim.kill();
  return true;
}

bool TortureFaults::stop(Resident& victim) {
  victim_ = &victim;
  victim.stop();
  return true;
}

bool TortureFaults::kill_node() {
  return kill(*house_.nodes()[draw(house_.nodes().size())]);
}

bool TortureFaults::stop_node() {
  return stop(*house_.nodes()[draw(house_.nodes().size())]);
}

bool TortureFaults::kill_leader() {
  const std::optional<LeaderStatus> leader = house_.leader();
  return leader && kill(*house_.servers()[leader->server]);
}

bool TortureFaults::stop_leader() {
  const std::optional<LeaderStatus> leader = house_.leader();
  return leader && stop(*house_.servers()[leader->server]);
}

bool TortureFaults::kill_follower() {
  const std::optional<LeaderStatus> leader = house_.leader();
  if (!leader) return false;
  const std::size_t others = house_.servers().size() - 1;
  return kill(*house_.servers()[(leader->server + 1 + draw(others)) % house_.servers().size()]);
}

bool TortureFaults::kill_engine() {
  engine_ = draw(load_.count());
  watch_.expect_end_of_session(began_);
  load_.kill(engine_, began_);
  return true;
}

bool TortureFaults::stop_engine() {
  engine_ = draw(load_.count());
  watch_.expect_end_of_session(began_);
  load_.stop(engine_, began_);
  return true;
}

bool TortureFaults::kill_member() {
  return kill(*house_.members()[draw(house_.members().size())]);
}

bool TortureFaults::stop_member() {
  return stop(*house_.members()[draw(house_.members().size())]);
}

bool TortureFaults::lose_quorum() {
  const std::size_t count = house_.members().size();
  const std::size_t first = draw(count);
  for (std::size_t i = 0; i < count / 2 + 1; ++i) house_.members()[(first + i) % count]->kill();
  return true;
}

Outcome<> TortureFaults::start_victim() {
  return victim_->start();
}

Outcome<> TortureFaults::wake_victim() {
  victim_->go_on();
  return {};
}

Outcome<> TortureFaults::start_engine() {
  return load_.start(engine_);
}

Outcome<> TortureFaults::wake_engine() {
  load_.go_on(engine_, now_on_clock());
  return {};
}

Outcome<> TortureFaults::start_members() {
  for (const auto& member : house_.members()) {
    if (member->process() != nullptr) continue;
    if (const Outcome<> started = member->start(); !started) return started;
  }
  return {};
}

Outcome<> TortureFaults::nothing() {
  return {};
}

/// The blocks that engines still use.
std::vector<std::pair<std::uint32_t, std::uint64_t>> TortureFaults::live_blocks() const {
  std::vector<std::pair<std::uint32_t, std::uint64_t>> blocks;
  const std::uint64_t newest = blocks_.round_at(now_on_clock());
  for (std::uint64_t round = newest > 0 ? newest - 1 : 0; round <= newest; ++round) {
    for (std::uint64_t at = 0; at < TortureBlocks::kConversations * TortureBlocks::kDepth; ++at) {
      for (std::uint32_t space = 0; space < TortureBlocks::kSpaces; ++space) {
        blocks.emplace_back(space, TortureBlocks::id(round, 0, at));
      }
    }
  }
  return blocks;
}

bool TortureFaults::spoil_bytes() {
  std::map<BlockKey, std::pair<std::uint32_t, std::uint64_t>> names;
  for (const auto& [space, block] : live_blocks()) {
    names[keys_[space].key(TortureBlocks::hash_of(block))] = {space, block};
  }
  Outcome<TortureArena> arena = house_.arena(draw(house_.nodes().size()));
  if (!arena) return false;
  const HistoryTime before = now_on_clock().time_since_epoch().count();
  const auto spoiled = arena->spoil(
      random_, [&names](const SealContent& seal) { return names.contains(seal.entry.meta.key); });
  if (!spoiled) return false;
  if (spoiled->undone) {  // another block may have been read meanwhile
    const HistoryTime after = now_on_clock().time_since_epoch().count();
    book_.disturbed({before, after, true});
    return false;
  }
  const auto& [space, block] = names.at(spoiled->seal.entry.meta.key);
  book_.disturbed(space, block, {before, kNever, true});
  return true;
}

}  // namespace membrain
