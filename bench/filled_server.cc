#include "bench/filled_server.h"

#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/key.h"
#include "protocol/calls.h"
#include "protocol/proofs.h"

namespace membrain {

namespace {

constexpr const char* kSecret = "bench";
constexpr std::uint32_t kNodes = 4;
constexpr Duration kPatience = std::chrono::seconds(60);

std::unique_ptr<Fabric> fabric_of(const std::shared_ptr<UcxContext>& context, Loop& loop) {
  UcxFabricConfig config;
  config.secret = kSecret;
  config.label = "bench";
  return make_ucx_fabric(context, loop, config).value();
}

/// A node that holds no bytes: it only says what it would hold.
class Reporter final : public Receiver {
 public:
  struct Range {
    std::uint64_t first;
    std::uint64_t end;
  };
  Reporter(Fabric& fabric, std::string server, NodeId node, Range blocks)
      : fabric_(fabric), calls_(fabric), server_(std::move(server)), node_(node), blocks_(blocks) {
    fabric_.set_receiver(*this);
  }
  [[nodiscard]] bool done() const noexcept { return done_; }

  Task<> run() {
    const TimePoint deadline = fabric_.loop().now() + kPatience;
    Task<Result<PeerId>> connecting = fabric_.connect(server_, deadline);
    const Result<PeerId> peer = co_await connecting;
    check(peer.has_value(), "the bench's node could not connect");
    peer_ = *peer;
    wire::RegisterNode hello;
    hello.node = node_;
    hello.incarnation = kLife;
    hello.address = "127.0.0.1:1";
    hello.host = "nowhere";
    hello.proof = register_proof(kSecret, node_, kLife, fabric_.binding(peer_));
    Task<Result<wire::Accepted>> asked =
        calls_.call<wire::Accepted>(peer_, std::move(hello), deadline);
    const Result<wire::Accepted> accepted = co_await asked;
    check(accepted.has_value(), "the bench's node was not accepted");
    Task<> reporting = report();
    co_await reporting;
    done_ = true;
  }

  Task<> leave() {
    Task<> closed = fabric_.close(peer_);
    co_await closed;
  }

  void on_message(PeerId peer, std::span<const std::byte> bytes, Payload) override {
    const Result<wire::Frame> frame = wire::read_frame(bytes);
    check(frame.has_value(), "no frame");
    calls_.on_frame(peer, *frame);
  }
  void on_lost(PeerId peer, const Error&) override { calls_.on_lost(peer); }

 private:
  static constexpr Incarnation kLife{1};

  /// One portion after the other, as nodes do.
  Task<> report() {
    wire::Report request{node_, kLife, 0, false, {}};
    BlockKey parent{};
    for (std::uint64_t next = blocks_.first; next < blocks_.end; ++request.portion) {
      request.items.clear();
      const std::uint64_t end = std::min<std::uint64_t>(next + wire::kMaxPublishItems, blocks_.end);
      for (; next < end; ++next) {
        const BlockKey key = keys_.key(bench_hash(next));
        request.items.push_back(bench_entry(space_, Era{1}, next, key, parent));
        request.items.back().slot.value -= static_cast<std::uint32_t>(blocks_.first);
        parent = key;
      }
      request.last = next == blocks_.end;
      const TimePoint deadline = fabric_.loop().now() + kPatience;
      Task<Result<wire::Reported>> asked = calls_.call<wire::Reported>(peer_, request, deadline);
      const Result<wire::Reported> answer = co_await asked;
      check(answer.has_value(), "the bench's blocks were not taken in");
    }
  }

  Fabric& fabric_;
  Calls calls_;
  const std::string server_;
  const NodeId node_;
  const Range blocks_;
  const Digest digest_ = digest_of(bench_namespace());
  const NamespaceId space_ = namespace_id(digest_);
  const KeyMaker keys_{digest_, tenant_key(kSecret, bench_namespace().tenant)};
  PeerId peer_;
  bool done_ = false;
};

}  // namespace

std::string_view bench_secret() noexcept {
  return kSecret;
}

FilledServer::FilledServer(std::shared_ptr<UcxContext> context, std::uint64_t blocks)
    : context_(std::move(context)),
      blocks_(blocks / kPromptBlocks * kPromptBlocks),
      fabric_(fabric_of(context_, loop_)) {
  ShardConfig config;
  config.secret = kSecret;
  config.expected_blocks = blocks_;
  // The nodes send no heartbeats; nothing may expire while rows run.
  config.node_ttl = config.session_ttl = std::chrono::hours(1);
  service_ = std::make_unique<ShardService>(*fabric_, config);
  check(service_->listen("127.0.0.1:0").has_value(), "the bench's server could not start");
  service_->lead(tenure_.next_term(), tenure_);
  thread_ = std::thread([this] {
    ::pthread_setname_np(::pthread_self(), "mb-server");  // as profilers show it
    loop_.run();
  });
}

struct FilledServer::Filler {
  Filler(const std::shared_ptr<UcxContext>& context, Loop& loop, const std::string& server,
         NodeId node, Reporter::Range blocks)
      : fabric(fabric_of(context, loop)), reporter(*fabric, server, node, blocks) {}

  std::unique_ptr<Fabric> fabric;
  Reporter reporter;
};

FilledServer::~FilledServer() {
  for (const auto& node : nodes_) nodes_loop_.spawn(node->reporter.leave());
  while (nodes_loop_.running_tasks() > 0) nodes_loop_.turn();
  nodes_.clear();
  loop_.stop();
  thread_.join();
  service_.reset();
}

void FilledServer::fill(const std::function<void()>& meanwhile) {
  const std::uint64_t prompts_each = (prompts() + kNodes - 1) / kNodes;
  for (std::uint32_t i = 0; i < kNodes; ++i) {
    Reporter::Range blocks{std::min(i * prompts_each, prompts()) * kPromptBlocks,
                           std::min((i + 1) * prompts_each, prompts()) * kPromptBlocks};
    nodes_.push_back(std::make_unique<Filler>(context_, nodes_loop_, service_->address(),
                                              NodeId{i + 1}, blocks));
    nodes_loop_.spawn(nodes_.back()->reporter.run());
  }
  while (nodes_loop_.running_tasks() > 0) {
    nodes_loop_.turn();
    meanwhile();
  }
}

Duration FilledServer::cpu() {
  ::clockid_t clock{};
  ::timespec taken{};
  check(::pthread_getcpuclockid(thread_.native_handle(), &clock) == 0 &&
            ::clock_gettime(clock, &taken) == 0,
        "the server's thread has no processor clock");
  return std::chrono::seconds(taken.tv_sec) + std::chrono::nanoseconds(taken.tv_nsec);
}

}  // namespace membrain
