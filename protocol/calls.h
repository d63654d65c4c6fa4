// Calls: requests that wait for their answer, from the asking end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "protocol/frame.h"
#include "protocol/messages.h"
#include "transport/fabric.h"

namespace membrain {

/// Pairs answers with requests by op id, on one fabric. The owner of the fabric's `Receiver` hands
/// answers in.
///
/// Every call has a deadline. A request that is not answered within `resend` is sent again with the
/// same op id (all requests of the protocol are idempotent); an answer that comes twice is dropped.
///
/// Threads  The loop's thread only. Bound: kMaxCalls under way.
class Calls {
 public:
  static constexpr std::size_t kMaxCalls = 65536;

  explicit Calls(Fabric& fabric, Duration resend = std::chrono::milliseconds(500));
  ~Calls();
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;

  /// Called each time that a call's request is sent again.
  using Late = std::function<void()>;

  /// Sends `request` to `peer` and waits for a `Reply`. A `Refused` answer becomes its error;
  /// `timed_out` at the deadline; `peer_lost` when the connection goes.
  template <class Reply, class Request>
  Task<Result<Reply>> call(PeerId peer, Request request, TimePoint deadline,
                           wire::Header header = {}, Late late = {});

  /// An op id for messages that `call` does not cover (Fetch, Store): unique on this fabric.
  [[nodiscard]] OpId next_op() noexcept { return OpId{next_op_++}; }

  /// Takes an answer. False if its op is none of ours (late, repeated, or the owner's own).
  bool on_frame(PeerId peer, const wire::Frame& frame);
  /// Ends every call to `peer` with `peer_lost`.
  void on_lost(PeerId peer);
  /// Ends every call with `cancelled`: shutting down.
  void cancel_all();

  [[nodiscard]] std::size_t pending() const noexcept { return pending_.size(); }

 private:
  struct Pending;
  Task<Result<std::vector<std::byte>>> exchange(PeerId peer, OpId op, std::vector<std::byte> frame,
                                                wire::Type expected, TimePoint deadline, Late late);
  void end(Pending& pending, const Result<>& outcome);

  Fabric& fabric_;
  Duration resend_;
  std::uint64_t next_op_ = 1;
  std::unordered_map<std::uint64_t, Pending*> pending_;
};

template <class Reply, class Request>
Task<Result<Reply>> Calls::call(PeerId peer, Request request, TimePoint deadline,
                                wire::Header header, Late late) {
  header.op = next_op();
  std::vector<std::byte> bytes;
  wire::write_frame(bytes, header, request);
  Task<Result<std::vector<std::byte>>> exchanged =
      exchange(peer, header.op, std::move(bytes), Reply::kType, deadline, std::move(late));
  Result<std::vector<std::byte>> body = co_await exchanged;
  if (!body) co_return fail(body.error());
  co_return wire::read_body<Reply>(*body);
}

}  // namespace membrain
