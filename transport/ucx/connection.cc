#include "transport/ucx/connection.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "transport/ucx/region.h"
#include "transport/ucx/route.h"

namespace membrain {

namespace {

std::span<const std::byte> bytes_of(const MessageHead& head) noexcept {
  return std::as_bytes(std::span(&head, 1));
}

std::size_t size_of(std::span<const ucp_dt_iov_t> pieces) noexcept {
  std::size_t bytes = 0;
  for (const ucp_dt_iov_t& piece : pieces) bytes += piece.length;
  return bytes;
}

void gather(std::span<const ucp_dt_iov_t> pieces, std::byte* into) noexcept {
  for (const ucp_dt_iov_t& piece : pieces) {
    std::memcpy(into, piece.buffer, piece.length);
    into += piece.length;
  }
}

void scatter(const std::byte* from, std::span<const ucp_dt_iov_t> pieces) noexcept {
  for (const ucp_dt_iov_t& piece : pieces) {
    std::memcpy(piece.buffer, from, piece.length);
    from += piece.length;
  }
}

}  // namespace

UcxOperation& OperationPool::take(Connection& connection, Completion* done) {
  if (free_.empty()) {
    free_.push_back(all_.emplace_back(std::make_unique<UcxOperation>()).get());
  }
  UcxOperation& operation = *free_.back();
  free_.pop_back();
  operation.connection = &connection;
  operation.done = done;
  return operation;
}

void OperationPool::give(UcxOperation& operation) noexcept {
  constexpr std::size_t kKeptBytes = 32768;  // a lookup of 512 keys, and more
  operation.connection = nullptr;
  operation.header.clear();
  operation.pieces.clear();
  rooms_.give(std::exchange(operation.joined, {}));
  operation.scatters = false;
  if (operation.frame.capacity() > kKeptBytes) operation.frame = {};
  operation.frame.clear();
  free_.push_back(&operation);
}

void OperationPool::abandon() noexcept {
  for (const std::unique_ptr<UcxOperation>& operation : all_) {
    if (operation->connection == nullptr) continue;
    if (operation->done != nullptr) {
      operation->done->finish(fail(Errc::peer_lost, "the fabric is gone"));
    }
    give(*operation);
  }
}

Pieces describe(std::span<const Segment> segments, const UcxContext& context,
                std::vector<ucp_dt_iov_t>& pieces) {
  for (const Segment& segment : segments) {
    if (segment.size == 0) continue;
    if (!pieces.empty()) {
      ucp_dt_iov_t& last = pieces.back();
      if (static_cast<std::byte*>(last.buffer) + last.length == segment.data) {
        last.length += segment.size;
        continue;
      }
    }
    pieces.push_back({segment.data, segment.size});
  }
  if (pieces.size() != 1) {
    return {pieces.data(), pieces.size(), ucp_dt_make_iov(), nullptr};
  }
  const ucp_dt_iov_t& only = pieces.front();
  const Segment whole{static_cast<std::byte*>(only.buffer), only.length, segments.front().region};
  return {only.buffer, only.length, ucp_dt_make_contig(1), UcxRegion::handle_for(whole, context),
          segments.front().kind};
}

Connection::Connection(UcxWorker& worker, OperationPool& pool, std::vector<Connection*>& broken,
                       PeerId peer, std::uint64_t contact_id, std::uint64_t token) noexcept
    : id(peer),
      contact(contact_id),
      own_token(token),
      worker_(worker),
      frame_room_(
          std::min(Fabric::kMaxFrameWithPayloadBytes, worker.header_bytes() - sizeof(MessageHead))),
      pool_(pool),
      broken_list_(broken) {}

Result<> Connection::meet(std::span<const std::byte> address) {
  const Result<ucp_ep_h> endpoint = worker_.connect(address, &on_error, this);
  if (!endpoint) return fail(endpoint.error());
  endpoint_ = *endpoint;
  const std::string info = describe_endpoint(endpoint_);
  lane = lane_of(info);
  // Only where a rendezvous is a read of the sender's memory.
  joins_ = lane == "shm" && (info.find("cma/") != info.npos || info.find("xpmem/") != info.npos);
  devices = device_payloads_of(worker_.context().devices(), info);
  phase_ = Phase::meeting;
  post(start({}, MessageKind::hello, nullptr), {}, 0);
  return {};
}

std::string Connection::route() const {
  if (endpoint_ == nullptr) return {};
  std::string route = route_in(describe_endpoint(endpoint_));
  if (lane == "tcp") route += "; payloads up to 1 MiB always eager";
  return route;
}

// --- Messages. ---

std::uint32_t Connection::flags_for(std::size_t bytes, std::string_view lane) noexcept {
  if (lane != "tcp") return 0;
  return bytes <= kEagerBytes ? UCP_AM_SEND_FLAG_EAGER : UCP_AM_SEND_FLAG_RNDV;
}

UcxOperation& Connection::start(std::span<const std::byte> frame, MessageKind kind,
                                Completion* done) {
  UcxOperation& operation = pool_.take(*this, done);
  const MessageHead head{peer_token, next_out_++, kind};
  const std::span<const std::byte> bytes = bytes_of(head);
  operation.header.assign(bytes.begin(), bytes.end());
  if (kind == MessageKind::long_frame || kind == MessageKind::frame_ahead) {
    operation.frame.assign(frame.begin(), frame.end());
  } else {
    operation.header.insert(operation.header.end(), frame.begin(), frame.end());
  }
  return operation;
}

Result<> Connection::send(std::span<const std::byte> frame) {
  if (!may_post()) return fail(Errc::peer_lost, "the connection is gone");
  if (operations_ >= kMaxOperations || waiting_bytes_ + frame.size() > kMaxWaitingBytes) {
    return fail(Errc::out_of_capacity, "the peer does not take its messages");
  }
  if (frame.size() <= frame_room_) {
    post(start(frame, MessageKind::frame, nullptr), {}, 0);
  } else {
    post_as_data(frame, MessageKind::long_frame);
  }
  return {};
}

void Connection::post_as_data(std::span<const std::byte> frame, MessageKind kind) {
  UcxOperation& operation = start(frame, kind, nullptr);
  const Pieces data{operation.frame.data(), operation.frame.size(), ucp_dt_make_contig(1), nullptr};
  post(operation, data, UCP_AM_SEND_FLAG_EAGER);  // the receiver need not ask for it
}

void Connection::send(std::span<const std::byte> frame, std::span<const Segment> payload,
                      Completion& done) {
  if (!may_post()) return done.finish(fail(Errc::peer_lost, "the connection is gone"));
  if (operations_ >= kMaxOperations || waiting_bytes_ + frame.size() > kMaxWaitingBytes) {
    return done.finish(fail(Errc::out_of_capacity, "the peer does not take its messages"));
  }
  if (frame.size() > frame_room_) {
    post_as_data(frame, MessageKind::frame_ahead);
    frame = {};
  }
  UcxOperation& operation = start(frame, MessageKind::frame_with_payload, &done);
  const Pieces described = describe(payload, worker_.context(), operation.pieces);
  const std::size_t bytes = size_of(operation.pieces);
  const Pieces data = joined(operation, described, bytes);
  if (operation.joined) gather(operation.pieces, operation.joined.get());
  const bool host = data.kind == MemoryKind::host;
  check(host || devices != DevicePayloads::none, "device memory on a connection of the host's");
  // From device memory nothing is sent before it is asked for.
  constexpr std::uint32_t kRendezvous = UCP_AM_SEND_FLAG_RNDV;
  post(operation, data, host ? flags_for(bytes, lane) : kRendezvous);
}

/// Over shared memory a rendezvous is one read from the sender's memory, but between single pieces
/// only: several the sender pushes through a queue, bit by bit, and if it is stopped amid that, not
/// even the forced end of its endpoint ends the receive (UCX 1.13; docs/adr/0042).
Pieces Connection::joined(UcxOperation& operation, const Pieces& pieces, std::size_t bytes) {
  if (!joins_ || operation.pieces.size() < 2) return pieces;
  operation.joined = pool_.rooms().take(bytes);
  if (!operation.joined) return pieces;
  return {operation.joined.get(), bytes, ucp_dt_make_contig(1), nullptr};
}

void Connection::post(UcxOperation& operation, const Pieces& data, std::uint32_t flags) {
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                       UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_MEMORY_TYPE;
  param.cb.send = &on_sent;
  param.user_data = &operation;
  param.flags = flags;
  param.memory_type = memory_type_of(data.kind);
  if (data.count != 0) {
    param.op_attr_mask |= UCP_OP_ATTR_FIELD_DATATYPE;
    param.datatype = data.datatype;
  }
  if (data.region != nullptr) {
    param.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
    param.memh = data.region;
  }
  waiting_bytes_ += operation.header.size() + operation.frame.size();
  ++operations_;
  started(ucp_am_send_nbx(endpoint_, kMessageId, operation.header.data(), operation.header.size(),
                          data.buffer, data.count, &param),
          operation);
}

void Connection::receive(const HeldBytes& data, std::span<const Segment> into, Completion& done) {
  UcxOperation& operation = pool_.take(*this, &done);
  const Pieces described = describe(into, worker_.context(), operation.pieces);
  const Pieces pieces = data.rendezvous ? joined(operation, described, data.size) : described;
  operation.scatters = static_cast<bool>(operation.joined);
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                       UCP_OP_ATTR_FIELD_DATATYPE | UCP_OP_ATTR_FIELD_MEMORY_TYPE;
  param.cb.recv_am = &on_received;
  param.user_data = &operation;
  param.datatype = pieces.datatype;
  param.memory_type = memory_type_of(pieces.kind);
  if (pieces.region != nullptr) {
    param.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
    param.memh = pieces.region;
  }
  ++operations_;
  started(ucp_am_recv_data_nbx(worker_.handle(), data.descriptor, const_cast<void*>(pieces.buffer),
                               pieces.count, &param),
          operation);
}

/// What a post returned: nothing if it has ended already, without a callback.
void Connection::started(ucs_status_ptr_t request, UcxOperation& operation) {
  if (request == nullptr) return ended(operation, UCS_OK);
  if (UCS_PTR_IS_ERR(request)) ended(operation, UCS_PTR_STATUS(request));
}

void Connection::ended(UcxOperation& operation, ucs_status_t status) noexcept {
  --operations_;
  waiting_bytes_ -= operation.header.size() + operation.frame.size();
  if (status != UCS_OK) {
    failed_.push_back(&operation);
    return break_off(Error{Errc::peer_lost, status, "an operation failed"});
  }
  if (operation.scatters) scatter(operation.joined.get(), operation.pieces);
  if (operation.done != nullptr) operation.done->finish({});
  pool_.give(operation);
}

void Connection::on_sent(void* request, ucs_status_t status, void* operation) {
  UcxOperation& ended_one = *static_cast<UcxOperation*>(operation);
  ucp_request_free(request);
  ended_one.connection->ended(ended_one, status);
}

void Connection::on_received(void* request, ucs_status_t status, std::size_t, void* operation) {
  on_sent(request, status, operation);
}

// --- Closing. ---

bool Connection::hold(std::size_t bytes) noexcept {
  if (held_bytes_ + bytes > kMaxHeldBytes) {
    break_off(Error{Errc::peer_lost, 0, "too many bytes that nobody receives"});
    return false;
  }
  held_bytes_ += bytes;
  return true;
}

void Connection::break_off(const Error& why) noexcept {
  if (broken_) return;
  broken_ = true;
  if (phase_ > Phase::open) return;
  why_ = why;
  broken_list_.push_back(this);
}

void Connection::on_error(void* connection, ucp_ep_h, ucs_status_t status) {
  Connection& self = *static_cast<Connection*>(connection);
  self.endpoint_failed_ = true;
  self.break_off(Error{Errc::peer_lost, status, "UCX lost the peer"});
}

bool Connection::over() const noexcept {
  return endpoint_ == nullptr || endpoint_failed_ || (broken_ && lane != "tcp");
}

void Connection::begin_close(TimePoint now) {
  if (phase_ > Phase::open) return;
  const bool meeting = phase_ == Phase::meeting && !heard_;
  phase_ = Phase::draining;
  deadline_ = now + (meeting ? kMeetingPatience : kDrainPatience);
  advance(now);
}

bool Connection::advance(TimePoint now) {
  const Phase before = phase_;
  const bool drained = operations_ == 0 && (heard_ || endpoint_ == nullptr);
  if (phase_ == Phase::draining && (drained || broken_ || now >= deadline_)) {
    const bool hangs = !drained && !broken_;
    over() || hangs ? force(now) : flush(now);
  }
  if (phase_ == Phase::flushing) {
    const bool flushed = !endpoint_flushing_ && (operations_ == 0 || broken_);
    if (flushed || over() || now >= deadline_) force(now);
  }
  if (phase_ == Phase::closing && operations_ == 0 && !endpoint_flushing_ && !endpoint_closing_) {
    phase_ = Phase::settling;
    deadline_ = lane == "shm" ? now + kSettleTime : now;
  }
  if (phase_ == Phase::settling && now >= deadline_) {
    phase_ = Phase::gone;
    finish_failed();
  }
  return phase_ != before;
}

void Connection::flush(TimePoint now) {
  phase_ = Phase::flushing;
  deadline_ = now + kFlushPatience;
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.cb.send = &on_flushed;
  param.user_data = this;
  endpoint_flushing_ = UCS_PTR_IS_PTR(ucp_ep_flush_nbx(endpoint_, &param));
}

void Connection::on_flushed(void* request, ucs_status_t, void* connection) {
  ucp_request_free(request);
  static_cast<Connection*>(connection)->endpoint_flushing_ = false;
}

void Connection::force(TimePoint now) {
  phase_ = Phase::closing;
  forced_at_ = now;
  abandoned_ = broken_ || operations_ != 0 || endpoint_flushing_;
  if (endpoint_ == nullptr) return;
  ucp_request_param_t param{};
  param.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  param.cb.send = &on_closed;
  param.user_data = this;
  endpoint_closing_ = UCS_PTR_IS_PTR(ucp_ep_close_nbx(endpoint_, &param));
  endpoint_ = nullptr;
}

void Connection::on_closed(void* request, ucs_status_t, void* connection) {
  ucp_request_free(request);
  static_cast<Connection*>(connection)->endpoint_closing_ = false;
}

void Connection::finish_failed() noexcept {
  const Result<> outcome = fail(Errc::peer_lost, "the connection is gone", why_.native);
  for (UcxOperation* operation : failed_) {
    if (operation->done != nullptr) operation->done->finish(outcome);
    pool_.give(*operation);
  }
  failed_.clear();
}

}  // namespace membrain
