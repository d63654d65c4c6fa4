// A node that is told anything by a client who may fetch and store, by one who may not, and by the
// shard: it stays sound.
//
// Input: steps. Who, what: a type, a u16 count, a body, and for a client's a u16 payload. What the
// client says begins with its proof where a proof belongs; the first bytes of what the shard says
// become the node's name and the shard's epoch.
#include <functional>
#include <optional>

#include "base/checksum.h"
#include "base/log.h"
#include "cache/node/node_service.h"
#include "protocol/proofs.h"
#include "tests/fuzz/party.h"

namespace membrain::fuzz {
namespace {

constexpr Duration kSoon = std::chrono::milliseconds(1);
constexpr Epoch kEpoch{3};
constexpr std::size_t kProofBytes = 48;

class World {
 public:
  World() {
    shard_.epoch = kEpoch;
    shard_.on_frame = [this](const wire::Frame& frame) { answer(frame); };
    check(shard_.fabric().listen("shard").has_value(), "the shard cannot listen");
    NodeConfig config;
    config.server = "shard";
    config.host = "host";
    config.listen = "node-data";
    config.mapped = false;
    service_.emplace(*control_, *data_, *arena_, config);
    check(service_->start().has_value(), "the node does not start");
    run_until(network_, [&] { return service_->status().connected; });
    settle();
  }
  ~World() {
    stop(network_, control_loop_, *service_);
    service_.reset();
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  void take(Reader& in) {
    std::uint8_t who = 0;
    wire::Type type{};
    in.get(who), in.get(type, static_cast<wire::Type>(0xff));
    std::vector<std::byte> body = take_bytes(in);
    if (who % 8 == 7) return run_for(network_, clock_, std::chrono::milliseconds(20) * (who / 8));
    settle();
    if (who % 8 < 4) {
      if (who % 8 != 3) put_proof(body);
      client_.say(type, OpId{++ops_}, body, take_bytes(in));
    } else if (who % 8 == 4) {
      stranger_.say(type, OpId{++ops_}, body, take_bytes(in));
    } else if (who % 8 == 5) {
      put_names(body);
      shard_.say(type, {}, body);
    } else {
      next_answer_ = std::move(body);
    }
    run_for(network_, clock_, kSoon);
    const Result<> fine = service_->check_invariants();
    check(fine.has_value(), fine ? "" : fine.error().context);
  }

 private:
  void settle() {
    for (Party* const caller : {&client_, &stranger_}) {
      if (!caller->peer) caller->connect("node-data");
    }
    run_until(network_, [&] { return client_.peer && stranger_.peer && shard_.peer; });
  }

  static Digest grant_key() { return Digest{std::byte{1}}; }
  static void put_proof(std::vector<std::byte>& body) {
    wire::SessionProof proof;
    proof.session = SessionId{5};
    proof.epoch = kEpoch;
    proof.mac = session_mac(grant_key(), proof);
    std::vector<std::byte> bytes;
    Writer out(bytes);
    proof.encode(out);
    if (body.size() >= kProofBytes) std::ranges::copy(bytes, body.begin());
  }
  void put_names(std::vector<std::byte>& body) const {
    std::vector<std::byte> names;
    Writer out(names);
    out.put(arena_->node()), out.put(arena_->incarnation()), out.put(kEpoch);
    if (body.size() >= names.size()) std::ranges::copy(names, body.begin());
  }

  /// As a shard does that takes everything; or what the input says, once.
  void answer(const wire::Frame& frame) {
    using wire::Type;
    const OpId op = frame.header.op;
    const auto kind = static_cast<Type>(static_cast<std::uint8_t>(frame.header.type) + 1);
    if (frame.header.type == Type::register_node) {
      return shard_.say(wire::Accepted{kEpoch, grant_key(), 3000}, op);
    }
    if (next_answer_) return shard_.say(kind, op, *std::exchange(next_answer_, std::nullopt));
    switch (frame.header.type) {
      case Type::report:
        return shard_.say(wire::Reported{statuses<wire::Report>(frame)}, op);
      case Type::publish:
        return shard_.say(wire::Published{statuses<wire::Publish>(frame)}, op);
      case Type::need_slots:
        return shard_.say(
            wire::FreeSlots{arena_->node(), arena_->incarnation(), kEpoch, std::move(held_)}, op);
      default:
        return shard_.say(kind, op, {});
    }
  }
  template <class Message>
  std::vector<wire::ItemStatus> statuses(const wire::Frame& frame) {
    const Result<Message> message = wire::read_body<Message>(frame.body);
    check(message.has_value(), "the node said what it should not");
    for (const wire::SlotEntry& entry : message->items) {
      if (held_.size() < wire::kMaxFreeItems) held_.push_back({entry.slot, entry.generation});
    }
    return std::vector(message->items.size(), wire::ItemStatus::ok);
  }

  ManualClock clock_;
  SimNetwork network_{clock_, 1};
  std::unique_ptr<Arena> arena_ = Arena::anonymous(1 << 18, NodeId{77}).value();
  Loop control_loop_{clock_};
  Loop data_loop_{clock_};
  std::unique_ptr<Fabric> control_ = network_.make_fabric(control_loop_, "node");
  std::unique_ptr<Fabric> data_ = network_.make_fabric(data_loop_, "node");
  Party shard_{network_, clock_, "shard"};
  Party client_{network_, clock_, "client"};
  Party stranger_{network_, clock_, "stranger"};
  std::optional<NodeService> service_;
  std::optional<std::vector<std::byte>> next_answer_;
  std::vector<wire::SlotRef> held_;
  std::uint64_t ops_ = 100;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  set_log_level(LogLevel::error);
  play<World>(data, size);
  return 0;
}

}  // namespace membrain::fuzz
