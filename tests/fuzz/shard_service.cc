// A shard that is told anything by clients and nodes who have proved who they are, and by one who
// has not: it stays sound.
//
// Input: steps. Who, what: a type, a u16 count, a body. Marks in it (party.h) become the session
// and the namespace of the run.
#include <functional>
#include <optional>

#include "base/key.h"
#include "base/log.h"
#include "protocol/messages.h"
#include "protocol/proofs.h"
#include "server/shard_service.h"
#include "tests/fuzz/party.h"

namespace membrain::fuzz {
namespace {

constexpr Duration kSoon = std::chrono::milliseconds(1);

class World {
 public:
  World() {
    ShardConfig config;
    config.session_ttl = std::chrono::seconds(3);
    config.node_ttl = std::chrono::seconds(2);
    config.expected_blocks = 16;
    service_.emplace(*fabric_, config);
    check(service_->listen("server").has_value(), "the shard cannot listen");
    service_->lead(tenure_.next_term(), tenure_);
    client_.on_frame = [this](const wire::Frame& frame) { hear(frame); };
    stranger_.connect("server");
    settle();
  }
  ~World() {
    stop(network_, loop_, *service_);
    service_.reset();
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  void take(Reader& in) {
    std::uint8_t who = 0;
    wire::Type type{};
    in.get(who), in.get(type, static_cast<wire::Type>(0xff));
    std::vector<std::byte> body = take_bytes(in);
    if (who % 8 == 7) return run_for(network_, clock_, std::chrono::milliseconds(100) * (who / 8));
    settle();
    replace(body, kSessionMark, session_.value);
    replace(body, kSpaceMark, space_.value);
    Party& speaker = who % 8 == 6 ? stranger_ : (who % 2 == 0 ? client_ : node_);
    speaker.say(type, OpId{++ops_}, body);
    run_for(network_, clock_, kSoon);
    const std::string wrong = service_->shard().check_invariants();
    check(wrong.empty(), wrong);
  }

 private:
  /// Whoever was hung up on calls again.
  void settle() {
    if (!client_.peer) {
      client_.connect("server");
      run_until(network_, [&] { return static_cast<bool>(client_.peer); });
      greet();
    }
    if (!node_.peer) {
      node_.connect("server");
      run_until(network_, [&] { return static_cast<bool>(node_.peer); });
      join();
    }
    run_for(network_, clock_, kSoon);
  }
  void greet() {
    wire::Hello hello;
    hello.tenant = "default";
    const Digest key = tenant_key("", hello.tenant);
    hello.proof = hello_proof(key, hello.tenant, client_.fabric().binding(client_.peer));
    client_.say(hello, OpId{++ops_});
    Namespace space;
    space.model = "a model";
    client_.say(wire::OpenNamespace{digest_of(space), family_of(space), "a model"}, OpId{++ops_});
  }
  void join() {
    wire::RegisterNode request;
    request.node = NodeId{1};
    request.incarnation = Incarnation{1};
    request.address = "node:data";
    request.proof =
        register_proof("", request.node, request.incarnation, node_.fabric().binding(node_.peer));
    node_.say(request, OpId{++ops_});
  }
  void hear(const wire::Frame& frame) {
    if (frame.header.type == wire::Type::welcome) {
      if (const auto welcome = wire::read_body<wire::Welcome>(frame.body)) {
        session_ = welcome->proof.session;
      }
    }
    if (frame.header.type == wire::Type::namespace_opened) {
      if (const auto opened = wire::read_body<wire::NamespaceOpened>(frame.body)) {
        space_ = opened->id;
      }
    }
  }
  ManualClock clock_;
  SimNetwork network_{clock_, 1};
  Loop loop_{clock_};
  std::unique_ptr<Fabric> fabric_ = network_.make_fabric(loop_, "server");
  LoneTenure tenure_;
  std::optional<ShardService> service_;
  Party client_{network_, clock_, "client"};
  Party node_{network_, clock_, "node"};
  Party stranger_{network_, clock_, "stranger"};
  SessionId session_;
  NamespaceId space_;
  std::uint64_t ops_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  set_log_level(LogLevel::error);
  play<World>(data, size);
  return 0;
}

}  // namespace membrain::fuzz
