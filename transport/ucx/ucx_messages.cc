// UcxFabric: messages and their payloads.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "transport/ucx/peer_fabric.h"

namespace membrain {

namespace {

std::uint64_t total(std::span<const Segment> segments) noexcept {
  std::uint64_t bytes = 0;
  for (const Segment& segment : segments) bytes += segment.size;
  return bytes;
}

/// Copies eager bytes to where the caller wants them.
void scatter(const HeldBytes& data, std::span<const Segment> into) noexcept {
  const auto* from = static_cast<const std::byte*>(data.descriptor);
  for (const Segment& segment : into) {
    std::copy_n(from, segment.size, segment.data);
    from += segment.size;
  }
}

}  // namespace

// --- Out. ---

Result<> UcxFabric::send(PeerId peer, std::span<const std::byte> frame) {
  if (frame.size() > kMaxFrameBytes) return fail(Errc::invalid_argument, "frame too long");
  Connection* connection = find(peer);
  if (connection == nullptr) return fail(Errc::peer_lost, "unknown peer");
  const Inside inside(around_);
  return connection->send(frame);
}

void UcxFabric::send(PeerId peer, std::span<const std::byte> frame,
                     std::span<const Segment> payload, Completion& done) {
  if (frame.size() > kMaxFrameWithPayloadBytes || payload.size() > kMaxSegments) {
    return done.finish(fail(Errc::invalid_argument, "frame or list of segments too long"));
  }
  if (total(payload) == 0) return done.finish(send(peer, frame));
  Connection* connection = find(peer);
  if (connection == nullptr) return done.finish(fail(Errc::peer_lost, "unknown peer"));
  const Inside inside(around_);
  connection->send(frame, payload, done);
}

// --- In. ---

bool UcxFabric::deliver() {
  if (arrivals_.empty()) return false;
  const Arrivals::Batch& batch = arrivals_.take();
  for (const Arrival& arrival : batch.messages) {
    accept(*arrival.connection, arrival, batch.frame_of(arrival));
  }
  return true;
}

void UcxFabric::accept(Connection& connection, const Arrival& arrival,
                       std::span<const std::byte> frame) {
  using Phase = Connection::Phase;
  if (connection.phase() > Phase::open) return release(&connection, arrival.data);
  const bool endpoint = connection.phase() != Phase::greeting;
  if (endpoint && arrival.sequence == connection.next_in) {
    ++connection.next_in;
    hand_over(connection, arrival.kind, frame, arrival.data);
    if (!connection.early.empty()) hand_over_early(connection);
    return;
  }
  const std::uint32_t ahead = arrival.sequence - connection.next_in;
  const bool fits = ahead < Connection::kMaxEarly && !connection.early.contains(arrival.sequence);
  if (!fits) {
    release(&connection, arrival.data);
    return connection.break_off(Error{Errc::peer_lost, 0, "messages out of sequence"});
  }
  connection.early.emplace(arrival.sequence,
                           EarlyMessage{arrival.kind, {frame.begin(), frame.end()}, arrival.data});
}

void UcxFabric::hand_over_early(Connection& connection) {
  while (connection.phase() <= Connection::Phase::open) {
    const auto next = connection.early.find(connection.next_in);
    if (next == connection.early.end()) return;
    const EarlyMessage message = std::move(next->second);
    connection.early.erase(next);
    ++connection.next_in;
    hand_over(connection, message.kind, message.frame, message.data);
  }
}

bool UcxFabric::hand_over_met() {
  if (met_.empty()) return false;
  std::vector<Connection*> met;
  met.swap(met_);
  for (Connection* connection : met) hand_over_early(*connection);
  return true;
}

void UcxFabric::hand_over(Connection& connection, MessageKind kind,
                          std::span<const std::byte> frame, const HeldBytes& data) {
  check(receiver_ != nullptr, "a fabric without a receiver got a message");
  const bool meeting = connection.phase() == Connection::Phase::meeting;
  if (meeting && kind == MessageKind::hello && frame.empty() && data.descriptor == nullptr) {
    return open(connection);
  }
  if (meeting) kind = MessageKind{};  // nothing comes before it
  const bool ahead = !connection.frame_ahead.empty();
  if (kind == MessageKind::frame && data.descriptor == nullptr && !ahead) {
    return receiver_->on_message(connection.id, frame, {});
  }
  if (kind == MessageKind::frame_with_payload && data.descriptor != nullptr &&
      (!ahead || frame.empty())) {
    const std::vector<std::byte> longer = std::exchange(connection.frame_ahead, {});
    Payload payload(*this, payloads_.add(connection, data), data.size, !data.rendezvous);
    return receiver_->on_message(connection.id, ahead ? longer : frame, std::move(payload));
  }
  const bool frame_as_data = data.descriptor != nullptr && !data.rendezvous && !ahead;
  const std::span bytes(static_cast<const std::byte*>(data.descriptor), data.size);
  if (kind == MessageKind::long_frame && frame_as_data && data.size <= kMaxFrameBytes) {
    receiver_->on_message(connection.id, bytes, {});
    return release(&connection, data);
  }
  if (kind == MessageKind::frame_ahead && frame_as_data && data.size <= kMaxFrameWithPayloadBytes) {
    connection.frame_ahead.assign(bytes.begin(), bytes.end());
    return release(&connection, data);
  }
  release(&connection, data);
  connection.break_off(Error{Errc::peer_lost, 0, "a message of no known kind"});
}

void UcxFabric::receive(Payload payload, std::span<const Segment> into, Completion& done) {
  check(total(into) == payload.size(), "a payload is received whole");
  check(into.size() <= kMaxSegments, "too many segments to receive into");
  if (payload.size() == 0) return done.finish({});
  const Payloads::Entry entry = payloads_.take(payload.release());
  if (entry.connection == nullptr) {
    return done.finish(fail(Errc::peer_lost, "the sender is gone"));
  }
  const Inside inside(around_);
  const bool host = into.front().kind == MemoryKind::host;
  if (!entry.data.rendezvous) {
    check(host, "what has arrived is received into the host's memory");
    scatter(entry.data, into);
    release(entry.connection, entry.data);
    return done.finish({});
  }
  if (!entry.connection->may_post()) {
    release(entry.connection, entry.data);
    return done.finish(fail(Errc::peer_lost, "the connection is gone"));
  }
  check(host || entry.connection->devices != DevicePayloads::none,
        "device memory on a connection of the host's");
  entry.connection->receive(entry.data, into, done);
}

void UcxFabric::discard(std::uint64_t payload_id) noexcept {
  const Inside inside(around_);
  const Payloads::Entry entry = payloads_.take(payload_id);
  release(entry.connection, entry.data);
}

void UcxFabric::release(Connection* connection, const HeldBytes& data) noexcept {
  if (data.descriptor == nullptr) return;
  ucp_am_data_release(connection->worker().handle(), data.descriptor);
  connection->let_go(data.held());
}

}  // namespace membrain
