#include "cache/client/fetch_exchange.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/log.h"
#include "cache/client/segments.h"

namespace membrain {

namespace {

Errc why_missing(wire::ItemStatus status) noexcept {
  switch (status) {
    case wire::ItemStatus::stale:
    case wire::ItemStatus::old_era:
      return Errc::stale;
    case wire::ItemStatus::denied:
      return Errc::denied;
    case wire::ItemStatus::unavailable:
      return Errc::unavailable;
    case wire::ItemStatus::cancelled:
      return Errc::timed_out;
    case wire::ItemStatus::corrupt:
      return Errc::corrupt;
    default:
      return Errc::not_found;
  }
}

/// Nobody waits for the answer: it is asked until it comes or the time is up.
Task<> tell_suspect(NodeLinks& links, PeerId peer, wire::Suspect suspect, TimePoint deadline) {
  Task<Result<wire::SuspectNoted>> asked =
      links.calls().call<wire::SuspectNoted>(peer, suspect, deadline);
  const Result<wire::SuspectNoted> noted = co_await asked;
  if (!noted) log(LogLevel::debug, "a suspect slot could not be reported");
}

}  // namespace

std::uint32_t milliseconds_left(TimePoint now, TimePoint deadline) noexcept {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - now).count();
  return static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(left, 1, std::numeric_limits<std::uint32_t>::max()));
}

FetchExchange::FetchExchange(NodeLinks& links, FetchTerms terms, std::vector<FetchTarget> targets,
                             OnTarget on_target)
    : links_(links),
      fabric_(links.fabric()),
      loop_(links.loop()),
      terms_(std::move(terms)),
      on_target_(std::move(on_target)),
      signal_(loop_.ready()),
      timer_(loop_, [this] { signal_.raise(); }),
      open_(targets.size()) {
  slots_.reserve(targets.size());
  for (FetchTarget& target : targets) slots_.push_back({std::move(target), Stage::waiting});
}

Task<> FetchExchange::run() {
  timer_.arm(terms_.deadline);
  while (open_ != 0) {
    if (!stopped_ && loop_.now() >= terms_.deadline) stop(Errc::timed_out);
    if (!peer_ && !stopped_) try_to_begin();
    if (lost_) end_idle(Errc::peer_lost, "the connection was lost");
    close_if_hung();
    if (open_ != 0) co_await signal_;
  }
  timer_.cancel();
  links_.forget(terms_.node, signal_);
  if (op_) links_.detach(op_);
}

void FetchExchange::try_to_begin() {
  const std::optional<Result<PeerId>> reached = links_.reach(terms_.node, signal_);
  if (!reached) return;
  if (*reached) return begin(**reached);
  end_idle(reached->error().code, reached->error().context);
}

void FetchExchange::begin(PeerId peer) {
  peer_ = peer;
  lane_ = fabric_.lane(peer);
  op_ = links_.calls().next_op();
  wire::Fetch request;
  request.proof = terms_.proof;
  request.deadline_ms = milliseconds_left(loop_.now(), terms_.deadline);
  request.items.reserve(slots_.size());
  for (std::uint32_t tag = 0; tag < slots_.size(); ++tag) {
    const FetchTarget& target = slots_[tag].target;
    request.items.push_back({terms_.space, target.key, target.part, target.at.slot,
                             target.at.generation, target.offset, target.length, tag});
  }
  std::vector<std::byte> frame;
  wire::Header head;
  head.op = op_;
  head.epoch = terms_.proof.epoch;
  wire::write_frame(frame, head, request);
  links_.attach(op_, peer, *this);
  if (const Result<> sent = fabric_.send(peer, frame); !sent) links_.abandon(peer);
}

// ---- what arrives

void FetchExchange::on_frame(const wire::Frame& frame, Payload payload) {
  if (frame.header.type == wire::Type::refused) {
    const Result<wire::Refused> refused = wire::read_body<wire::Refused>(frame.body);
    end_idle(refused ? refused->code : Errc::corrupt, "refused by the node");
    signal_.raise();
  } else if (frame.header.type == wire::Type::data) {
    const Result<wire::Data> message = wire::read_body<wire::Data>(frame.body);
    if (message) take_data(*message, std::move(payload));
  }
}

/// Every tag is one of ours, waits, and comes once; every length is what was asked; and the payload
/// is exactly their sum.
bool FetchExchange::fits(const wire::Data& message, std::uint64_t payload_bytes) const {
  std::uint64_t bytes = 0;
  std::vector<std::uint32_t> tags;
  tags.reserve(message.items.size());
  for (const wire::DataItem& item : message.items) {
    if (item.tag >= slots_.size() || slots_[item.tag].stage != Stage::waiting) return false;
    const bool ok = item.status == wire::ItemStatus::ok;
    if (item.length != (ok ? slots_[item.tag].target.length : 0)) return false;
    bytes += item.length;
    tags.push_back(item.tag);
  }
  std::sort(tags.begin(), tags.end());
  return bytes == payload_bytes && std::adjacent_find(tags.begin(), tags.end()) == tags.end();
}

void FetchExchange::take_data(const wire::Data& message, Payload payload) {
  if (!fits(message, payload.size())) {
    log(LogLevel::debug, "Data that does not fit its Fetch was dropped");
    return;
  }
  Arrival arrival;
  for (const wire::DataItem& item : message.items) {
    if (item.status == wire::ItemStatus::ok) {
      slots_[item.tag].stage = Stage::queued;
      arrival.tags.push_back(item.tag);
    } else {
      end(item.tag, fail(why_missing(item.status), "the node does not have it"));
    }
  }
  if (!arrival.tags.empty()) {
    arrival.payload = std::move(payload);
    arrivals_.push_back(std::move(arrival));
    receive_next();
  }
  signal_.raise();
}

void FetchExchange::receive_next() {
  while (!arrivals_.empty() && receiving_ < std::max(terms_.window, 1U)) {
    Arrival next = std::move(arrivals_.front());
    arrivals_.pop_front();
    ++receiving_;
    loop_.spawn(receive(std::move(next)));
  }
}

/// From here until `done` the destinations belong to the fabric.
Task<> FetchExchange::receive(Arrival arrival) {
  SegmentList segments;
  for (const std::uint32_t tag : arrival.tags) {
    slots_[tag].stage = Stage::receiving;
    segments.add(slots_[tag].target.into);
  }
  Completion done(loop_.ready());
  fabric_.receive(std::move(arrival.payload), segments.to_receive(), done);
  const Result<> outcome = co_await done;
  --receiving_;
  receive_next();  // before the hashing: the wire need not wait for it
  if (outcome) segments.scatter();
  for (const std::uint32_t tag : arrival.tags) {
    if (outcome) {
      landed(tag);
    } else {
      end(tag, fail(stopped_ ? why_stopped_ : Errc::peer_lost, "the bytes broke off"));
    }
  }
  signal_.raise();
}

void FetchExchange::landed(std::uint32_t tag) {
  const FetchTarget& target = slots_[tag].target;
  if (!target.verify || checksum_of(target.into) == target.at.checksum) return end(tag, {});
  log(LogLevel::warn, "a block from node {} failed its checksum", terms_.node.value);
  suspect(target.at);
  end(tag, fail(Errc::corrupt, "the checksum of what arrived"));
}

void FetchExchange::suspect(const Location& at) {
  const wire::Suspect message{at.slot, at.generation};
  loop_.spawn(tell_suspect(links_, peer_, message, loop_.now() + kDrain));
}

// ---- how targets end

void FetchExchange::end(std::uint32_t tag, const Result<>& outcome) {
  slots_[tag].stage = Stage::ended;
  --open_;
  on_target_(slots_[tag].target, outcome);
}

/// Ends what is not being received: nothing can land there, now that its Data would be dropped.
void FetchExchange::end_idle(Errc why, std::string_view context) {
  arrivals_.clear();
  for (std::uint32_t tag = 0; tag < slots_.size(); ++tag) {
    const Stage stage = slots_[tag].stage;
    if (stage == Stage::waiting || stage == Stage::queued) end(tag, fail(why, context));
  }
}

void FetchExchange::stop(Errc why) {
  if (stopped_ || open_ == 0) return;
  stopped_ = true;
  why_stopped_ = why;
  if (peer_ && !lost_) {
    std::vector<std::byte> frame;
    wire::Header head;
    head.op = links_.calls().next_op();
    wire::write_frame(frame, head, wire::CancelFetch{op_});
    if (const Result<> sent = fabric_.send(peer_, frame); !sent) links_.abandon(peer_);
  }
  end_idle(why, "taken back");
  drained_by_ = loop_.now() + kDrain;
  timer_.arm(drained_by_);
  signal_.raise();
}

/// A receive that has not ended kDrain after the stop ends with its connection.
void FetchExchange::close_if_hung() {
  if (!stopped_ || closing_ || receiving_ == 0 || loop_.now() < drained_by_) return;
  closing_ = true;
  log(LogLevel::warn, "node {} hangs in a transfer: closed", terms_.node.value);
  links_.abandon(peer_);
}

void FetchExchange::on_peer_lost() {
  lost_ = true;
  signal_.raise();
}

}  // namespace membrain
