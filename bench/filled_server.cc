#include "bench/filled_server.h"

#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/key.h"
#include "protocol/calls.h"
#include "protocol/proofs.h"

namespace membrain {

namespace {

constexpr const char* kSecret = "bench";
constexpr std::size_t kPublishBlocks = 1024;
constexpr std::uint64_t kPublishers = 4;
constexpr Duration kPatience = std::chrono::seconds(60);

std::unique_ptr<Fabric> fabric_of(const std::shared_ptr<UcxContext>& context, Loop& loop) {
  UcxFabricConfig config;
  config.secret = kSecret;
  config.label = "bench";
  return make_ucx_fabric(context, loop, config).value();
}

/// A node that holds no bytes: it only says what it would hold.
class Publisher final : public Receiver {
 public:
  Publisher(Fabric& fabric, std::string server, std::uint64_t blocks)
      : fabric_(fabric), calls_(fabric), server_(std::move(server)), blocks_(blocks) {
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
    hello.node = kNode;
    hello.incarnation = kLife;
    hello.address = "127.0.0.1:1";
    hello.host = "nowhere";
    hello.proof = register_proof(kSecret, kNode, kLife, fabric_.binding(peer_));
    Task<Result<wire::Accepted>> asked =
        calls_.call<wire::Accepted>(peer_, std::move(hello), deadline);
    const Result<wire::Accepted> accepted = co_await asked;
    check(accepted.has_value(), "the bench's node was not accepted");
    Completion published(fabric_.loop().ready(), kPublishers);
    for (std::uint64_t i = 0; i < kPublishers; ++i) fabric_.loop().spawn(publish(i, published));
    const Result<> outcome = co_await published;
    check(outcome.has_value(), "the bench's blocks were not published");
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
  static constexpr NodeId kNode{1};
  static constexpr Incarnation kLife{1};

  [[nodiscard]] wire::Publish portion(std::uint64_t first) const {
    const std::uint64_t count = std::min<std::uint64_t>(kPublishBlocks, blocks_ - first);
    wire::Publish request{kNode, kLife, {}};
    BlockKey parent = first > 0 ? keys_.key(bench_hash(first - 1)) : BlockKey{};
    for (std::uint64_t number = first; number < first + count; ++number) {
      const BlockKey key = keys_.key(bench_hash(number));
      request.items.push_back(bench_entry(space_, Era{1}, number, key, parent));
      parent = key;
    }
    return request;
  }

  /// Every kPublishers-th portion.
  Task<> publish(std::uint64_t nth, Completion& published) {
    Result<> outcome{};
    for (std::uint64_t first = nth * kPublishBlocks; first < blocks_ && outcome;
         first += kPublishers * kPublishBlocks) {
      wire::Publish request = portion(first);
      const TimePoint deadline = fabric_.loop().now() + kPatience;
      Task<Result<wire::Published>> asked =
          calls_.call<wire::Published>(peer_, std::move(request), deadline);
      const Result<wire::Published> answer = co_await asked;
      if (!answer) outcome = fail(answer.error());
    }
    published.finish(outcome);
  }

  Fabric& fabric_;
  Calls calls_;
  const std::string server_;
  const std::uint64_t blocks_;
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
  // The node that has published sends no heartbeats; nothing may expire while rows run.
  config.node_ttl = config.session_ttl = std::chrono::hours(1);
  service_ = std::make_unique<ShardService>(*fabric_, config);
  check(service_->listen("127.0.0.1:0").has_value(), "the bench's server could not start");
  service_->lead(tenure_.next_term(), tenure_);
  thread_ = std::thread([this] {
    ::pthread_setname_np(::pthread_self(), "mb-server");  // as profilers show it
    loop_.run();
  });
  fill();
}

struct FilledServer::Filler {
  Filler(const Clock& clock, const std::shared_ptr<UcxContext>& context, const std::string& server,
         std::uint64_t blocks)
      : loop(clock), fabric(fabric_of(context, loop)), publisher(*fabric, server, blocks) {}
  ~Filler() {
    loop.spawn(publisher.leave());
    while (loop.running_tasks() > 0) loop.turn();
  }
  Filler(const Filler&) = delete;
  Filler& operator=(const Filler&) = delete;

  Loop loop;
  std::unique_ptr<Fabric> fabric;
  Publisher publisher;
};

FilledServer::~FilledServer() {
  filler_.reset();
  loop_.stop();
  thread_.join();
  service_.reset();
}

void FilledServer::fill() {
  filler_ = std::make_unique<Filler>(clock_, context_, service_->address(), blocks_);
  filler_->loop.spawn(filler_->publisher.run());
  while (!filler_->publisher.done()) filler_->loop.turn();
  while (filler_->loop.running_tasks() > 0) filler_->loop.turn();
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
