#include "cache/client/fetch_exchange.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/log.h"
#include "cache/client/transfer_scratch.h"

namespace membrain {

namespace {

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
                             FetchListener& listener)
    : links_(links),
      fabric_(links.fabric()),
      loop_(links.loop()),
      terms_(std::move(terms)),
      listener_(listener),
      targets_(std::move(targets)),
      courses_(targets_.size()),
      signal_(loop_.ready()),
      timer_(loop_, [this] { signal_.raise(); }),
      last_sign_(loop_.now()),
      open_(targets_.size()) {}

Task<> FetchExchange::run() {
  timer_.arm(terms_.deadline);
  while (open_ != 0) {
    if (!stopped_ && stop_soon_) stop(Errc::cancelled);
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
  asked_at_ = last_sign_ = loop_.now();
  lane_ = fabric_.lane(peer);
  op_ = links_.calls().next_op();
  wire::Fetch& request = links_.scratch().fetch;
  request.proof = terms_.proof;
  request.deadline_ms = milliseconds_left(loop_.now(), terms_.deadline);
  request.items.clear();
  request.items.reserve(targets_.size());
  for (std::uint32_t tag = 0; tag < targets_.size(); ++tag) {
    const FetchTarget& target = targets_[tag];
    request.items.push_back({terms_.space, target.key, target.part, target.at.slot,
                             target.at.generation, target.offset, target.length, tag});
  }
  std::vector<std::byte>& frame = links_.scratch().frame;
  wire::Header head;
  head.op = op_;
  head.epoch = terms_.proof.epoch;
  into_device_ = fabric_.device_payloads(peer) != DevicePayloads::none &&
                 std::ranges::all_of(targets_, [](const FetchTarget& at) { return at.spot; });
  if (into_device_) head.flags = wire::kIntoDevice;
  wire::write_frame(frame, head, request);
  links_.attach(op_, peer, *this);
  if (const Result<> sent = fabric_.send(peer, frame); !sent) links_.abandon(peer);
}

// ---- what arrives

/// The first one tells the lane's latency.
void FetchExchange::note_answer() noexcept {
  last_sign_ = loop_.now();
  if (std::exchange(answered_, true)) return;
  LaneModel& lane = links_.lanes().lane(terms_.node);
  lane.answered(last_sign_ - asked_at_, last_sign_);
  lane.breaker().succeeded();
}

void FetchExchange::on_frame(const wire::Frame& frame, Payload payload) {
  note_answer();
  if (all_aside()) return stop_soon();  // the payload is discarded
  if (frame.header.type == wire::Type::refused) {
    const Result<wire::Refused> refused = wire::read_body<wire::Refused>(frame.body);
    end_idle(refused ? refused->code : Errc::corrupt, "refused by the node");
    signal_.raise();
  } else if (frame.header.type == wire::Type::data) {
    wire::Data& message = links_.scratch().data;
    if (wire::read_body_into(frame.body, message)) take_data(message, std::move(payload));
  }
}

/// The tag is one of ours, and waits; the length is what was asked.
bool FetchExchange::fits(const wire::DataItem& item) const {
  if (item.tag >= courses_.size() || courses_[item.tag].stage != Stage::waiting) return false;
  return item.length == (item.status == wire::ItemStatus::ok ? targets_[item.tag].length : 0);
}

/// Every item fits, and comes once; and the payload is exactly their sum.
bool FetchExchange::fits(const wire::Data& message, std::uint64_t payload_bytes) {
  std::uint64_t bytes = 0;
  std::size_t fitting = 0;
  for (const wire::DataItem& item : message.items) {
    if (!fits(item)) break;
    courses_[item.tag].stage = Stage::claimed;  // named again, it does not wait
    bytes += item.length;
    ++fitting;
  }
  for (std::size_t i = 0; i < fitting; ++i) courses_[message.items[i].tag].stage = Stage::waiting;
  return fitting == message.items.size() && bytes == payload_bytes;
}

void FetchExchange::take_data(const wire::Data& message, Payload payload) {
  if (!fits(message, payload.size())) {
    log(LogLevel::debug, "Data that does not fit its Fetch was dropped");
    return;
  }
  std::uint32_t first_tag = kNoTag;
  std::uint32_t* link = &first_tag;
  for (const wire::DataItem& item : message.items) {
    if (item.status == wire::ItemStatus::ok) {
      courses_[item.tag].stage = Stage::queued;
      courses_[item.tag].next = kNoTag;
      *link = item.tag;
      link = &courses_[item.tag].next;
    } else {
      end(item.tag, fail(wire::why_missing(item.status), "the node does not have it"));
    }
  }
  if (first_tag != kNoTag) {
    arrivals_.push_back({first_tag, std::move(payload)});
    receive_next();
  }
  signal_.raise();
}

void FetchExchange::receive_next() {
  while (!arrivals_.empty() && receiving_ < std::max(terms_.window, 1U)) {
    Arrival next = arrivals_.pop_front();
    ++receiving_;
    loop_.spawn(receive(next.first_tag, std::move(next.payload)));
  }
}

bool FetchExchange::all_have_spots(std::uint32_t first_tag) const noexcept {
  for (std::uint32_t tag = first_tag; tag != kNoTag; tag = courses_[tag].next) {
    if (targets_[tag].spot == nullptr) return false;
  }
  return true;
}

bool FetchExchange::from_device(std::uint32_t first_tag) const noexcept {
  return into_device_ && targets_[first_tag].tier == Tier::device;
}

std::optional<Segment> FetchExchange::room_for(std::uint32_t first_tag, const Payload& payload) {
  const DevicePayloads allowed = fabric_.device_payloads(peer_);
  if (!may_land(allowed, from_device(first_tag), payload.arrived())) return std::nullopt;
  if (!all_have_spots(first_tag)) return std::nullopt;
  return targets_[first_tag].spot->room->take(payload.size());
}

/// From here until `done` the destinations belong to the fabric.
Task<> FetchExchange::receive(std::uint32_t first_tag, Payload payload) {
  const Pool<SegmentList>::Lease segments = links_.scratch().segments.take();
  segments->clear();
  const std::optional<Segment> straight = room_for(first_tag, payload);
  if (straight) segments->add(*straight);
  for (std::uint32_t tag = first_tag; tag != kNoTag; tag = courses_[tag].next) {
    courses_[tag].stage = Stage::receiving;
    if (!straight) segments->add(targets_[tag].into);
  }
  // The host's memory is no place for what comes from a GPU's over such a connection.
  const bool no_place = !straight && !payload.arrived() && from_device(first_tag) &&
                        fabric_.device_payloads(peer_) == DevicePayloads::between_devices;
  const std::uint64_t bytes = payload.size();
  const TimePoint began = loop_.now();
  receiving_bytes_ += bytes;
  Completion done(loop_.ready());
  if (no_place) {
    payload = {};
    done.finish(fail(Errc::unavailable, "no room on the GPU"));
  } else {
    fabric_.receive(std::move(payload), segments->to_receive(), done);
  }
  const Result<> outcome = co_await done;
  --receiving_;
  receiving_bytes_ -= bytes;
  last_sign_ = loop_.now();
  if (outcome) links_.lanes().lane(terms_.node).moved(bytes, last_sign_ - began, last_sign_);
  receive_next();  // before the hashing: the wire need not wait for it
  if (outcome && !straight) segments->scatter();
  const Errc lost = no_place ? Errc::unavailable : Errc::peer_lost;
  std::byte* at = straight ? straight->data : nullptr;
  for (std::uint32_t tag = first_tag; tag != kNoTag; tag = courses_[tag].next) {
    if (!outcome) {
      end(tag, fail(stopped_ ? why_stopped_ : lost, "the bytes broke off"));
    } else if (straight) {
      landed_straight(tag, at);
      at += targets_[tag].length;
    } else {
      landed(tag);
    }
  }
  signal_.raise();
}

void FetchExchange::landed(std::uint32_t tag) {
  const FetchTarget& target = targets_[tag];
  if (courses_[tag].aside) return end(tag, {});
  if (!target.verify || checksum_of(target.into) == target.at.checksum) return end(tag, {});
  log(LogLevel::warn, "a block from node {} failed its checksum", terms_.node.value);
  suspect(target.at);
  end(tag, fail(Errc::corrupt, "the checksum of what arrived"));
}

void FetchExchange::landed_straight(std::uint32_t tag, const std::byte* at) {
  const FetchTarget& target = targets_[tag];
  DeviceSpot& spot = *target.spot;
  spot.landed = true;
  spot.at = spot.room->offset_of(at);
  spot.wanted = target.at.checksum;
  spot.lane = lane_;
  end(tag, {});
}

void FetchExchange::suspect(const Location& at) {
  const wire::Suspect message{at.slot, at.generation};
  loop_.spawn(tell_suspect(links_, peer_, message, loop_.now() + kDrain));
}

// ---- how targets end

void FetchExchange::end(std::uint32_t tag, const Result<>& outcome) {
  courses_[tag].stage = Stage::ended;
  --open_;
  if (courses_[tag].aside) {
    --aside_;
  } else {
    listener_.on_target(targets_[tag], outcome);
  }
  if (open_ != 0 && all_aside() && answered_) stop_soon();
}

bool FetchExchange::idle(std::uint32_t tag) const noexcept {
  const Course& course = courses_[tag];
  return (course.stage == Stage::waiting || course.stage == Stage::queued) && !course.aside;
}

bool FetchExchange::set_aside(std::uint32_t tag, const Place& aside) noexcept {
  if (!idle(tag)) return false;
  courses_[tag].aside = true;
  targets_[tag].into = aside;
  ++aside_;
  if (all_aside() && answered_) stop_soon();
  return true;
}

void FetchExchange::stop_soon() noexcept {
  stop_soon_ = true;
  signal_.raise();
}

/// Ends what is not being received: nothing can land there, now that its Data would be dropped.
void FetchExchange::end_idle(Errc why, std::string_view context) {
  while (!arrivals_.empty()) arrivals_.pop_front();
  for (std::uint32_t tag = 0; tag < courses_.size(); ++tag) {
    const Stage stage = courses_[tag].stage;
    if (stage == Stage::waiting || stage == Stage::queued) end(tag, fail(why, context));
  }
}

void FetchExchange::stop(Errc why) {
  if (stopped_ || open_ == 0) return;
  stopped_ = true;
  why_stopped_ = why;
  // What is being received may just be large; if it hangs, its connection is closed.
  if (why == Errc::timed_out && receiving_ == 0) silence_ = loop_.now() - last_sign_;
  if (peer_ && !lost_) {
    std::vector<std::byte>& frame = links_.scratch().frame;
    wire::Header head;
    head.op = links_.calls().next_op();
    wire::write_frame(frame, head, wire::CancelFetch{op_});
    if (const Result<> sent = fabric_.send(peer_, frame); !sent) links_.abandon(peer_);
  }
  end_idle(why, "taken back");
  // Who is not waited for any more may take the time that it had.
  const bool unwanted = stop_soon_ || all_aside();
  drained_by_ = (unwanted ? std::max(loop_.now(), terms_.deadline) : loop_.now()) + kDrain;
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
