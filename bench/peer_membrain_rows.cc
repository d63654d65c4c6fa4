// Membrain's rows: values by fetch and store, names by lookups that only ask.
#include <deque>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "bench/filled_shard.h"
#include "bench/page_memory.h"
#include "bench/peer_rows.h"

namespace membrain {
namespace {

constexpr std::uint64_t kFirstStored = std::uint64_t{1} << 50;
constexpr std::size_t kProbesUnderWay = 4;
constexpr std::size_t kFetchesUnderWay = 2;
constexpr std::size_t kPortionBytes = std::size_t{4} << 20;  // of one fetch
constexpr std::size_t kPortions = kBatchBytes / kPortionBytes;

/// Where values land: as much memory as is under way, used again and again, as Redis' client uses
/// its own.
class LandingRing {
 public:
  explicit LandingRing(const Values& values) : values_(values) {}

  [[nodiscard]] std::size_t portion() const noexcept { return kPortionBytes / values_.bytes; }
  /// The `nth` portion; its blocks are counted from `block`.
  [[nodiscard]] std::vector<FetchItem> items(std::size_t nth, std::size_t block) {
    std::vector<FetchItem> items(portion());
    for (std::size_t i = 0; i < items.size(); ++i) {
      items[i].block = static_cast<std::uint32_t>(block + i);
      items[i].into = {{place(nth, i), values_.bytes}};
    }
    return items;
  }
  /// The `nth` portion landed, and begins with value `first`.
  [[nodiscard]] bool intact(std::size_t nth, std::size_t first) {
    for (std::size_t i = 0; i < portion(); ++i) {
      if (!is_value(values_.number(first + i), {place(nth, i), values_.bytes})) return false;
    }
    return true;
  }

 private:
  std::byte* place(std::size_t nth, std::size_t index) {
    return memory_.data() + nth % kFetchesUnderWay * kPortionBytes + index * values_.bytes;
  }

  const Values values_;
  PageMemory memory_ = PageMemory(kFetchesUnderWay * kPortionBytes);
};

/// Operations under way, oldest first; each must bring `count` values.
class Transfers {
 public:
  explicit Transfers(std::size_t count) : count_(count) {}

  void add(Operation<TransferReport> operation) { under_way_.push_back(std::move(operation)); }
  /// Waits until at most `most` are left; false if a value did not come.
  bool settle(std::size_t most) {
    bool all = true;
    while (under_way_.size() > most) {
      const Result<TransferReport> report = under_way_.front().wait();
      all = all && report && report->ok_count() == count_;
      under_way_.pop_front();
    }
    return all;
  }

 private:
  std::size_t count_;
  std::deque<Operation<TransferReport>> under_way_;
};

std::vector<BlockHash> hashes_of(std::uint64_t first, std::size_t count) {
  std::vector<BlockHash> hashes;
  for (std::size_t i = 0; i < count; ++i) hashes.push_back(hash_of_value(first + i));
  return hashes;
}

bool came_by(Path path, const TransferReport& report) {
  const auto lane = report.lane_bytes.find(path == Path::tcp ? "tcp" : "mapped");
  return lane != report.lane_bytes.end() && lane->second == report.bytes;
}

bool all_there(Operation<Match>& probe) {
  const Result<Match> match = probe.wait();
  return match && match->prefix_blocks() == kKeysAtOnce;
}

}  // namespace

void membrain_fetch(benchmark::State& state, Rivals& rivals, std::size_t bytes, Path path) {
  const Values values(bytes);
  const Outcome<PeerCluster*> cluster = rivals.membrain_with(values);
  if (!cluster) return state.SkipWithError(cluster.error().text.c_str());
  const std::unique_ptr<Client> client = (*cluster)->connect(path);
  const OpenedNamespace space = (*cluster)->space_of(*client);
  const Result<Match> match = client->lookup(space, hashes_of(values.number(0), values.count));
  if (!match || match->prefix_blocks() != values.count) {
    return state.SkipWithError("not every value was found");
  }
  LandingRing ring(values);
  const Result<TransferReport> checked = client->fetch(*match, ring.items(0, 0));
  if (!checked || !ring.intact(0, 0)) return state.SkipWithError("other bytes came");
  if (!came_by(path, *checked)) return state.SkipWithError("bytes came by another lane");
  std::vector<std::vector<FetchItem>> portions;
  for (std::size_t first = 0; first < values.count; first += ring.portion()) {
    portions.push_back(ring.items(portions.size(), first));
  }
  std::size_t next = 0;
  for (auto _ : state) {
    Transfers transfers(ring.portion());
    bool all = true;
    for (std::size_t i = 0; i < kPortions; ++i) {
      all = transfers.settle(kFetchesUnderWay - 1) && all;
      transfers.add(client->fetch_async(*match, portions[next++ % portions.size()]));
    }
    if (!transfers.settle(0) || !all) return state.SkipWithError("a value did not come");
  }
  count_bytes(state);
}

void membrain_get(benchmark::State& state, Rivals& rivals, std::size_t bytes, Path path) {
  const Values values(bytes);
  const Outcome<PeerCluster*> cluster = rivals.membrain_with(values);
  if (!cluster) return state.SkipWithError(cluster.error().text.c_str());
  const std::unique_ptr<Client> client = (*cluster)->connect(path);
  const OpenedNamespace space = (*cluster)->space_of(*client);
  LandingRing ring(values);
  const auto look_up = [&](std::size_t first) {
    return client->lookup_async(space, hashes_of(values.number(first), ring.portion()));
  };
  const std::vector<FetchItem> items[] = {ring.items(0, 0), ring.items(1, 0)};
  static_assert(std::size(items) == kFetchesUnderWay);
  std::size_t first = 0;
  std::size_t last = 0;
  for (auto _ : state) {
    Transfers transfers(ring.portion());
    std::deque<Match> matches;  // of the portions under way, and the one before
    Operation<Match> asked = look_up(first);
    bool all = true;
    for (std::size_t i = 0; i < kPortions && all; ++i) {
      Result<Match> match = asked.wait();
      all = match && match->prefix_blocks() == ring.portion();
      if (!all) break;
      last = std::exchange(first, first + ring.portion());
      if (i + 1 < kPortions) asked = look_up(first);
      all = transfers.settle(kFetchesUnderWay - 1);
      if (matches.size() == kFetchesUnderWay) matches.pop_front();
      matches.push_back(std::move(*match));
      transfers.add(client->fetch_async(matches.back(), items[i % kFetchesUnderWay]));
    }
    if (!transfers.settle(0) || !all) return state.SkipWithError("a value did not come");
  }
  if (!ring.intact(kPortions - 1, last)) return state.SkipWithError("other bytes came");
  count_bytes(state);
}

void membrain_store(benchmark::State& state, Rivals& rivals, std::size_t bytes, Path path) {
  const Values values(bytes);
  const Outcome<PeerCluster*> cluster = rivals.membrain_for_stores();
  if (!cluster) return state.SkipWithError(cluster.error().text.c_str());
  const std::unique_ptr<Client> client = (*cluster)->connect(path);
  const OpenedNamespace space = (*cluster)->space_of(*client);
  PageMemory memory(kBatchBytes);
  values.fill(0, memory);
  std::vector<StoreItem> items(values.batch());
  static std::uint64_t fresh = kFirstStored;
  for (auto _ : state) {
    // Names that nobody has stored; the node makes room meanwhile by what nobody has used longest.
    for (std::size_t i = 0; i < items.size(); ++i) {
      items[i].hash = hash_of_value(fresh++);
      items[i].from = {{memory.data() + i * bytes, bytes}};
    }
    const Result<TransferReport> report = client->store(space, items);
    if (!report || report->ok_count() != items.size()) {
      return state.SkipWithError("a value was not kept");
    }
  }
  count_bytes(state);
}

void membrain_contains(benchmark::State& state, Rivals& rivals) {
  FilledServer& server = rivals.membrain_with_keys();
  const std::unique_ptr<Client> client =
      caller_driven_client(server.address(), std::string(bench_secret()), Path::tcp);
  const OpenedNamespace space = client->open_namespace(bench_namespace()).value();
  const std::vector<std::vector<BlockHash>> batches = present_batches();
  LookupOptions options;
  options.mode = LookupOptions::Mode::probe;
  options.rule = LookupOptions::Rule::all;
  for (auto _ : state) {
    std::deque<Operation<Match>> under_way;
    bool all = true;
    for (const std::vector<BlockHash>& batch : batches) {
      under_way.push_back(client->lookup_async(space, batch, options));
      if (under_way.size() < kProbesUnderWay) continue;
      all = all_there(under_way.front()) && all;
      under_way.pop_front();
    }
    for (Operation<Match>& probe : under_way) all = all_there(probe) && all;
    if (!all) return state.SkipWithError("a key was not there");
  }
  count_keys(state);
}

}  // namespace membrain
