// SimNetwork: messages and their payloads.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "transport/sim_fabric.h"
#include "transport/sim_network.h"

namespace membrain {

namespace {

constexpr std::uint8_t other(std::uint8_t side) noexcept {
  return side ^ 1;
}

}  // namespace

// --- Messages. ---

Result<> SimNetwork::send(SimEndName from, std::span<const std::byte> frame) {
  const SimLink& link = links_[from.link];
  if (link.ends[from.side].state != SimEnd::State::open) {
    return fail(Errc::peer_lost, "the connection is gone");
  }
  if (!passes(from, frame)) return {};
  const SimEndName to{from.link, other(from.side)};
  put_on_wire(to, frame, nullptr, 0, {});
  if (random_.chance(faults_.duplicate)) {
    ++stats_.duplicated;
    if (witness_) witness_(Fate::repeated, frame);
    put_on_wire(to, frame, nullptr, 0, faults_.duplicate_delay);
  }
  return {};
}

void SimNetwork::send(SimEndName from, std::span<const std::byte> frame,
                      std::span<const Segment> payload, std::uint64_t bytes, Completion& done) {
  SimLink& link = links_[from.link];
  if (link.ends[from.side].state != SimEnd::State::open) {
    return done.finish(fail(Errc::peer_lost, "the connection is gone"));
  }
  if (bytes <= eager_bytes_ && payload.front().kind == MemoryKind::host) {
    return send_along(from, frame, payload, bytes, done);
  }
  const SimName name = transfers_.add();
  SimTransfer& transfer = transfers_[name.index];
  transfer.link = from.link;
  transfer.from = from.side;
  transfer.taken = false;
  transfer.bytes = bytes;
  transfer.source.assign(payload.begin(), payload.end());
  transfer.sent = &done;
  transfer.received = nullptr;
  if (payload.front().kind != MemoryKind::host) ++stats_.sent_from_devices;
  link.transfers.push_back(name.index);
  if (passes(from, frame)) {
    put_on_wire({from.link, other(from.side)}, frame, &name, bytes, {});
  } else if (link.up) {  // lost; else it ends with the connection
    const Duration there_and_back = 2 * delay(link.ends[0].process, link.ends[1].process);
    at(now() + there_and_back, Kind::payload_acknowledged, name);
  }
}

/// What is lost on the way is lost without a word: the sender has been told that it has gone.
void SimNetwork::send_along(SimEndName from, std::span<const std::byte> frame,
                            std::span<const Segment> payload, std::uint64_t bytes,
                            Completion& done) {
  if (passes(from, frame)) {
    const SimName name = transfers_.add();
    SimTransfer& transfer = transfers_[name.index];
    std::vector<std::byte>& along = along_[name.index];
    along.resize(bytes);
    transfer.link = from.link;
    transfer.from = from.side;
    transfer.taken = false;
    transfer.bytes = bytes;
    transfer.source.assign(payload.begin(), payload.end());
    transfer.sink.assign(1, Segment{along.data(), along.size(), nullptr});
    transfer.sent = transfer.received = nullptr;
    copy_range(transfer.source, transfer.sink, 0, bytes);
    transfer.source = transfer.sink;
    links_[from.link].transfers.push_back(name.index);
    put_on_wire({from.link, other(from.side)}, frame, &name, bytes, {});
  }
  done.finish({});
}

bool SimNetwork::passes(SimEndName from, std::span<const std::byte> frame) {
  const SimLink& link = links_[from.link];
  if (!link.up) return false;
  ++stats_.messages;
  if (random_.chance(faults_.reset)) {
    ++stats_.resets;
    break_link(from.link);
    return false;
  }
  if (random_.chance(faults_.loss)) {
    ++stats_.lost;
    if (witness_) witness_(Fate::lost, frame);
    return false;
  }
  return true;
}

void SimNetwork::put_on_wire(SimEndName to, std::span<const std::byte> frame,
                             const SimName* transfer, std::uint64_t bytes, Duration late) {
  const SimName name = messages_.add();
  SimMessage& message = messages_[name.index];
  message.frame.assign(frame.begin(), frame.end());
  message.to = to;
  message.transfer = transfer != nullptr ? *transfer : SimName{};
  message.payload_bytes = bytes;

  SimLink& link = links_[to.link];
  SimEnd& end = link.ends[to.side];
  TimePoint arrival = now() + delay(link.ends[0].process, link.ends[1].process);
  if (late == Duration{} && random_.chance(faults_.reorder)) {
    ++stats_.reordered;
    late = faults_.reorder_delay;
  }
  if (late == Duration{}) {
    arrival = std::max(arrival, end.last_arrival);
    end.last_arrival = arrival;
  } else {
    arrival += random_.between(Duration::zero(), late);
  }
  at(arrival, Kind::message_arrives, name);
}

void SimNetwork::message_arrives(const SimEvent& event) {
  const SimEndName to = messages_[event.index].to;
  const SimLink& link = links_[to.link];
  if (link.ends[to.side].state != SimEnd::State::open) return messages_.remove(event.index);
  if (blocked(link.ends[other(to.side)].process, link.ends[to.side].process)) {
    held_.push_back(event);
    return;
  }
  arrive(*link.ends[to.side].fabric, {false, event.index, to});
}

void SimNetwork::hand_over(std::uint32_t index) {
  const SimMessage& message = messages_[index];
  SimEnd& end = links_[message.to.link].ends[message.to.side];
  if (end.state == SimEnd::State::open) {
    ++stats_.delivered;
    check(end.fabric->receiver_ != nullptr, "a fabric without a receiver got a message");
    Payload payload;
    if (message.payload_bytes != 0) {
      payload = Payload(*end.fabric, message.transfer.packed(), message.payload_bytes,
                        arrives_with_its_message(message.transfer));
    }
    end.fabric->receiver_->on_message(end.peer, message.frame, std::move(payload));
  }
  messages_.remove(index);
}

// --- Payloads. ---

bool SimNetwork::arrives_with_its_message(SimName name) noexcept {
  const SimTransfer* const transfer = transfers_.find(name);
  if (transfer == nullptr) return false;
  return along_.contains(name.index) || (transfer->bytes <= devices_.arrive_bytes &&
                                         transfer->source.front().kind == MemoryKind::host);
}

void SimNetwork::check_kinds(std::span<const Segment> segments) const {
  for (const Segment& segment : segments) {
    const bool device = segment.kind != MemoryKind::host;
    check(!device || (segments.size() == 1 && devices_.payloads != DevicePayloads::none),
          "a payload in device memory where there can be none");
    if (devices_.is_device && segment.size != 0) {
      check(devices_.is_device(segment.data) == device, "a segment of another kind than it says");
    }
  }
}

void SimNetwork::receive(std::uint64_t payload_id, std::span<const Segment> into,
                         Completion& done) {
  const SimName name = SimName::unpacked(payload_id);
  SimTransfer* transfer = transfers_.find(name);
  if (transfer == nullptr) return done.finish(fail(Errc::peer_lost, "the sender is gone"));
  check(!transfer->taken, "a payload is received once");
  SimLink& link = links_[transfer->link];
  const std::uint8_t side = other(transfer->from);
  if (link.ends[side].state == SimEnd::State::gone) {
    return done.finish(fail(Errc::peer_lost, "the connection is gone"));
  }
  transfer->taken = true;
  transfer->sink.assign(into.begin(), into.end());
  if (along_.contains(name.index)) {
    copy_range(transfer->source, transfer->sink, 0, transfer->bytes);
    landed(*transfer);
    end_transfer_if_done(name.index);
    return done.finish({});
  }
  transfer->received = &done;
  if (into.front().kind != MemoryKind::host) {
    ++stats_.received_into_devices;
    const bool from_device = transfer->source.front().kind != MemoryKind::host;
    check(from_device || devices_.payloads == DevicePayloads::any,
          "a payload of the host's memory was received into a device's");
  } else {
    check(transfer->source.front().kind == MemoryKind::host ||
              devices_.payloads == DevicePayloads::any,
          "a payload of a device's memory was received into the host's");
  }
  if (!link.up) return;  // ends with the connection
  const Duration latency = delay(link.ends[0].process, link.ends[1].process);
  at(now() + latency + time_to_move(transfer->bytes) / 2, Kind::payload_half_landed, name);
}

void SimNetwork::discard(std::uint64_t payload_id) noexcept {
  const SimName name = SimName::unpacked(payload_id);
  SimTransfer* transfer = transfers_.find(name);
  if (transfer == nullptr || transfer->taken) return;
  transfer->taken = true;
  if (along_.contains(name.index)) return end_transfer_if_done(name.index);
  const SimLink& link = links_[transfer->link];
  const Duration latency = delay(link.ends[0].process, link.ends[1].process);
  if (link.up) at(now() + latency, Kind::payload_acknowledged, name);
}

void SimNetwork::payload_moves(const SimEvent& event) {
  const SimName name{event.index, event.generation};
  SimTransfer* transfer = transfers_.find(name);
  // Once either side has been told that it is over, its memory may serve another purpose.
  if (transfer == nullptr || transfer->sent == nullptr || transfer->received == nullptr) return;
  if (stands_still(*transfer)) {
    held_.push_back(event);
    return;
  }
  const std::uint64_t half = transfer->bytes / 2;
  if (event.kind == Kind::payload_half_landed) {
    copy_range(transfer->source, transfer->sink, 0, half);
    return at(now() + time_to_move(transfer->bytes) / 2, Kind::payload_landed, name);
  }
  copy_range(transfer->source, transfer->sink, half, transfer->bytes);
  landed(*transfer);
  std::exchange(transfer->received, nullptr)->finish({});
  const SimLink& link = links_[transfer->link];
  const Duration latency = delay(link.ends[0].process, link.ends[1].process);
  at(now() + latency, Kind::payload_acknowledged, name);
}

void SimNetwork::landed(const SimTransfer& transfer) noexcept {
  if (random_.chance(faults_.bit_flip)) {
    ++stats_.flipped;
    flip_bit(transfer.sink, random_.below(transfer.bytes * 8));
  }
  ++stats_.payloads;
  stats_.payload_bytes += transfer.bytes;
}

void SimNetwork::payload_acknowledged(const SimEvent& event) {
  SimTransfer* transfer = transfers_.find({event.index, event.generation});
  if (transfer == nullptr || transfer->sent == nullptr) return;
  const SimLink& link = links_[transfer->link];
  const SimEnd& sender = link.ends[transfer->from];
  if (blocked(link.ends[other(transfer->from)].process, sender.process)) {
    held_.push_back(event);
    return;
  }
  std::exchange(transfer->sent, nullptr)->finish({});
  end_transfer_if_done(event.index);
}

void SimNetwork::end_transfer_if_done(std::uint32_t index) {
  SimTransfer& transfer = transfers_[index];
  if (transfer.sent != nullptr || transfer.received != nullptr) return;
  std::vector<std::uint32_t>& open = links_[transfer.link].transfers;
  const auto place = std::find(open.begin(), open.end(), index);
  *place = open.back();
  open.pop_back();
  along_.erase(index);
  transfers_.remove(index);
}

Duration SimNetwork::time_to_move(std::uint64_t bytes) const noexcept {
  const std::uint64_t rate = std::max<std::uint64_t>(1, faults_.bytes_per_second);
  return Duration(static_cast<Duration::rep>(bytes * 1'000'000'000 / rate));
}

bool SimNetwork::stands_still(const SimTransfer& transfer) noexcept {
  const SimLink& link = links_[transfer.link];
  const std::uint32_t a = link.ends[0].process;
  const std::uint32_t b = link.ends[1].process;
  return processes_[a].paused || processes_[b].paused || blocked(a, b) || blocked(b, a);
}

}  // namespace membrain
