// The same blocks to all members of a group: from member to member, and by a fetch of each.
//
//   group_bench --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
//               --benchmark_enable_random_interleaving=true
//
// Rows, by members: 32 MiB in 16 blocks, members on this host, each with threads of its own
//   replicate  Client::replicate_to, the first member is the root
//   fetch      every member fetches them from a node at the same time, not mapped
// The counter source_MiB is what leaves the root, or the node: the load of the one network card
// that a hot prefix comes from. Time is until the last member has everything, verified.
#include <benchmark/benchmark.h>

#include <barrier>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "membrain/client.h"
#include "tools/free_port.h"
#include "tools/running_node.h"
#include "tools/running_server.h"
#include "tools/signals.h"

namespace membrain {
namespace {

constexpr std::uint32_t kBlocks = 16;
constexpr std::size_t kBlockBytes = std::size_t{2} << 20;
constexpr double kMiB = 1 << 20;

struct Member {
  std::unique_ptr<Client> client;
  std::vector<std::byte> memory = std::vector<std::byte>(kBlocks * kBlockBytes);
  std::optional<RegisteredLayout> layout;
  std::optional<Group> group;
  Match match;
  bool whole = false;  ///< all of the last round came
};

/// A server, a node that has the blocks, and members that have joined a group.
class Party {
 public:
  explicit Party(std::uint32_t members) : context_(UcxContext::create().value()) {
    set_log_level(LogLevel::error);
    ServerOptions server;
    server.listen = "127.0.0.1:0";
    server.no_admin = server.temporary = true;
    server_ = std::move(*RunningServer::start(server, context_));
    NodeOptions node;
    node.server = server_->address();
    node.name = "group-bench";
    node.capacity_bytes = 64 << 20;
    node.temporary = true;
    node_ = std::move(*RunningNode::start(node, context_));
    ready_ = node_->wait_connected(SteadyClock().now() + std::chrono::seconds(20), signals_);
    for (unsigned number = 0; number < kBlocks; ++number) {
      hashes_.push_back(BlockHash::from(std::as_bytes(std::span(&number, 1))).value());
    }
    GroupConfig group;
    group.name = "bench";
    for (std::uint32_t rank = 0; rank < members; ++rank)
      group.members.push_back("127.0.0.1:" + std::to_string(free_port()));
    for (std::uint32_t rank = 0; rank < members; ++rank) {
      group.rank = rank;
      members_.push_back(open(group));
    }
    fill();
  }

  [[nodiscard]] bool ready() const noexcept { return ready_; }
  [[nodiscard]] std::vector<std::unique_ptr<Member>>& members() noexcept { return members_; }
  [[nodiscard]] const std::vector<BlockHash>& hashes() const noexcept { return hashes_; }
  [[nodiscard]] std::uint64_t node_bytes_out() const { return node_->status().bytes_out; }
  /// Every member has what the first one has.
  [[nodiscard]] bool all_equal() const {
    for (const auto& member : members_) {
      if (!member->whole || member->memory != members_[0]->memory) return false;
    }
    return true;
  }

 private:
  std::unique_ptr<Member> open(const GroupConfig& group) {
    auto member = std::make_unique<Member>();
    ClientConfig config;
    config.server = server_->address();
    config.mapped = false;
    member->client = std::move(*Client::open(config));
    Layout layout;
    layout.blocks = kBlocks;
    layout.planes.push_back({member->memory.data(), kBlockBytes, kBlockBytes});
    member->layout = Client::register_layout(layout).value();
    member->group.emplace(std::move(*member->client->join(group)));
    return member;
  }
  /// The first member's blocks, which it stores on the node; the others look them up.
  void fill() {
    Member& root = *members_[0];
    for (std::size_t i = 0; i < root.memory.size(); ++i) {
      root.memory[i] = static_cast<std::byte>(i * 7 + i / 4093);
    }
    for (const auto& member : members_) {
      Namespace space;
      space.model = "bench";
      const OpenedNamespace opened = member->client->open_namespace(space).value();
      LayoutStore blocks;
      blocks.hashes = hashes_;
      if (member == members_.front()) {
        ready_ &= root.client->store(opened, *root.layout, blocks)->ok_count() == kBlocks;
      }
      member->match = member->client->lookup(opened, hashes_).value();
    }
  }

  std::shared_ptr<UcxContext> context_;
  Signals signals_;
  std::unique_ptr<RunningServer> server_;
  std::unique_ptr<RunningNode> node_;
  std::vector<BlockHash> hashes_;
  std::vector<std::unique_ptr<Member>> members_;
  bool ready_ = false;
};

/// All members at once, a thread each; `round(member, rank)` is one member's part.
template <class Round>
void run_rounds(benchmark::State& state, Party& party, Round round) {
  std::barrier<> gate(static_cast<std::ptrdiff_t>(party.members().size()) + 1);
  bool over = false;
  std::vector<std::jthread> threads;
  for (std::uint32_t rank = 0; rank < party.members().size(); ++rank) {
    threads.emplace_back([&, rank] {
      while (true) {
        gate.arrive_and_wait();
        if (over) return;
        round(*party.members()[rank], rank);
        gate.arrive_and_wait();
      }
    });
  }
  for (auto _ : state) {
    gate.arrive_and_wait();  // they begin
    gate.arrive_and_wait();  // and have ended
  }
  over = true;
  gate.arrive_and_wait();
  threads.clear();
  if (!party.all_equal()) state.SkipWithError("not every member has the blocks");
  state.SetBytesProcessed(state.iterations() * std::int64_t{kBlocks * kBlockBytes} *
                          static_cast<std::int64_t>(party.members().size() - 1));
}

void replicate(benchmark::State& state) {
  Party party(static_cast<std::uint32_t>(state.range(0)));
  if (!party.ready()) return state.SkipWithError("the node did not come up");
  std::uint64_t sent = 0;
  run_rounds(state, party, [&](Member& member, std::uint32_t rank) {
    Replication blocks;
    blocks.hashes = party.hashes();
    const auto report = member.client->replicate_to(*member.group, *member.layout, blocks);
    member.whole = report && report->ok_count() == kBlocks;
    if (rank == 0 && report) sent += report->bytes;
  });
  state.counters["source_MiB"] =
      benchmark::Counter(static_cast<double>(sent) / kMiB, benchmark::Counter::kAvgIterations);
}

void fetch(benchmark::State& state) {
  Party party(static_cast<std::uint32_t>(state.range(0)));
  if (!party.ready()) return state.SkipWithError("the node did not come up");
  const std::uint64_t before = party.node_bytes_out();
  run_rounds(state, party, [](Member& member, std::uint32_t rank) {
    if (rank == 0) return void(member.whole = true);
    LayoutFetch blocks;
    blocks.count = kBlocks;
    const auto report = member.client->fetch(member.match, *member.layout, blocks);
    member.whole = report && report->ok_count() == kBlocks;
  });
  const std::uint64_t sent = party.node_bytes_out() - before;
  state.counters["source_MiB"] =
      benchmark::Counter(static_cast<double>(sent) / kMiB, benchmark::Counter::kAvgIterations);
}

BENCHMARK(replicate)->Arg(2)->Arg(4)->Arg(8)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(fetch)->Arg(2)->Arg(4)->Arg(8)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace membrain

BENCHMARK_MAIN();
