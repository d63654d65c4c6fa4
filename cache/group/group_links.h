// Group links: the connections between members of a group, and who gets what arrives on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/mac.h"
#include "membrain/result.h"
#include "protocol/frame.h"
#include "protocol/group_messages.h"
#include "transport/fabric.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

/// One member's part in one replication: what `GroupLinks` hands messages to. False: the message
/// makes no sense, and its sender is disconnected.
class GroupCall {
 public:
  [[nodiscard]] virtual bool on_offer(PeerId peer, const wire::GroupOffer& offer) = 0;
  [[nodiscard]] virtual bool on_blocks(PeerId peer, wire::GroupBlocks blocks, Payload payload) = 0;
  [[nodiscard]] virtual bool on_done(PeerId peer, const wire::GroupDone& done) = 0;
  [[nodiscard]] virtual bool on_propose(PeerId peer, const wire::GroupPropose& proposed) = 0;
  [[nodiscard]] virtual bool on_answer(PeerId peer, const wire::GroupAnswer& answer) = 0;
  [[nodiscard]] virtual bool on_go(PeerId peer, const wire::GroupGo& go) = 0;
  /// The connection is gone, or being closed. What was posted on it still ends by itself.
  virtual void on_peer_lost(PeerId peer) = 0;

 protected:
  ~GroupCall() = default;
};

struct GroupTerms {
  std::string name;
  std::uint32_t rank = 0;
  std::vector<Address> members;  ///< where each is reached, by rank
  Digest tenant_key{};
};

/// Connects on demand and keeps connections; whoever connects is the one who passes blocks on. What
/// comes for a replication that this member has not come to yet waits: at most kMaxWaiting messages
/// of a connection. Members say far less before they know that it has come (`Replicating`): blocks
/// that travel with their message would wait here, and not at their sender.
///
/// Ownership  Borrows the fabric, whose receiver it is. Calls detach before they go.
/// Threads    The data loop.
class GroupLinks final : public Receiver {
 public:
  static constexpr std::size_t kMaxWaiting = 64;

  GroupLinks(Fabric& fabric, GroupTerms terms);
  ~GroupLinks();
  GroupLinks(const GroupLinks&) = delete;
  GroupLinks& operator=(const GroupLinks&) = delete;

  /// Takes first contacts of members.
  Result<Address> listen(const Address& at) { return fabric_.listen(at); }

  /// The connection to a member, by which blocks are passed on to it.
  Task<Result<PeerId>> reach(std::uint32_t rank, TimePoint deadline);
  /// Closes it in the background: every send and receive on it ends.
  void abandon(PeerId peer);

  /// From now on `call` is told what comes for this replication; what came before, at once.
  void attach(std::uint64_t sequence, GroupCall& call);
  /// It is over: what still comes for it is dropped.
  void detach(std::uint64_t sequence);

  template <class Message>
  void send(PeerId peer, const Message& message) {
    std::vector<std::byte> frame;  // a peer that is gone needs none
    static_cast<void>(fabric_.send(peer, wire::write_frame(frame, wire::Header{}, message)));
  }

  /// Closes every connection. Nothing may be under way.
  Task<> stop();

  [[nodiscard]] Fabric& fabric() noexcept { return fabric_; }
  [[nodiscard]] Loop& loop() noexcept { return fabric_.loop(); }
  [[nodiscard]] std::uint32_t rank() const noexcept { return terms_.rank; }
  [[nodiscard]] std::uint32_t size() const noexcept {
    return static_cast<std::uint32_t>(terms_.members.size());
  }

  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override;
  void on_lost(PeerId peer, const Error& why) override;

 private:
  struct Waiting {
    wire::Type type = wire::Type::refused;
    std::vector<std::byte> body;
    Payload payload;
  };
  struct Peer {
    bool proven = false;  ///< or called by us
    std::deque<Waiting> waiting;
  };

  [[nodiscard]] bool take(PeerId peer, const wire::Frame& frame, Payload payload);
  [[nodiscard]] bool take_hello(PeerId peer, std::span<const std::byte> body);
  [[nodiscard]] bool deliver(GroupCall& call, PeerId peer, wire::Type type,
                             std::span<const std::byte> body, Payload payload);
  void lose(PeerId peer);
  Task<> close(PeerId peer);

  Fabric& fabric_;
  const GroupTerms terms_;
  std::unordered_map<std::uint64_t, Peer> peers_;
  std::map<std::uint32_t, PeerId> reached_;  ///< by rank
  std::map<std::uint64_t, GroupCall*> calls_;
  std::uint64_t next_sequence_ = 1;  ///< replications below it are over
  std::uint32_t closing_ = 0;
  bool stopped_ = false;
  Signal closed_;
};

}  // namespace membrain
