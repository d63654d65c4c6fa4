#include "transport/sim_network.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "transport/sim_fabric.h"
#include "transport/sim_windows.h"

namespace membrain {

SimNetwork::SimNetwork(ManualClock& clock, std::uint64_t seed, SimFaults faults)
    : clock_(clock), faults_(faults), random_(seed) {}

SimNetwork::~SimNetwork() {
  check(fabrics_.empty(), "a simulated network was destroyed before its fabrics");
}

std::unique_ptr<Fabric> SimNetwork::make_fabric(Loop& loop, std::string_view process) {
  const std::uint32_t number = process_of(process);
  auto fabric = std::make_unique<SimFabric>(*this, loop, number);
  fabrics_.push_back(fabric.get());
  const auto driven = std::find_if(loops_.begin(), loops_.end(),
                                   [&](const Driven& known) { return known.loop == &loop; });
  if (driven == loops_.end()) {
    loops_.push_back({&loop, number, {fabric.get()}});
  } else {
    check(driven->process == number, "a loop belongs to one process");
    driven->fabrics.push_back(fabric.get());
  }
  return fabric;
}

std::unique_ptr<Windows> SimNetwork::make_windows(Loop& loop, std::string_view process) {
  return std::make_unique<SimWindows>(*this, loop, process_of(process));
}

void SimNetwork::leave(SimFabric& fabric) {
  cut_off(fabric);
  for (const SimArrival& arrival : fabric.arrivals_) {
    if (!arrival.lost) messages_.remove(arrival.message);
  }
  arrivals_ -= fabric.arrivals_.size();
  for (const SimEndName& name : fabric.peers_) links_[name.link].ends[name.side].fabric = nullptr;
  std::erase(fabrics_, &fabric);
  const auto driven = std::find_if(loops_.begin(), loops_.end(), [&](const Driven& known) {
    return known.loop == &fabric.loop_;
  });
  std::erase(driven->fabrics, &fabric);
  if (driven->fabrics.empty()) loops_.erase(driven);
}

// --- Time. ---

bool SimNetwork::step() {
  std::optional<TimePoint> next = next_event();
  if (turn_loops(next)) return true;
  if (!next) return false;
  if (*next > now()) clock_.set(*next);
  deliver_due();
  return true;
}

bool SimNetwork::rests(const Driven& driven) const noexcept {
  if (arrivals_ != 0) {
    for (const SimFabric* fabric : driven.fabrics) {
      if (!fabric->arrivals_.empty()) return false;
    }
  }
  return driven.loop->rests(now());
}

bool SimNetwork::turn_loops() {
  std::optional<TimePoint> next;
  return turn_loops(next);
}

bool SimNetwork::turn_loops(std::optional<TimePoint>& next) {
  const std::size_t count = loops_.size();
  TimePoint earliest = TimePoint::max();
  std::size_t at = random_.below(count);
  bool worked = false;
  for (std::size_t i = 0; i < count && !loops_.empty(); ++i, ++at) {
    if (at >= loops_.size()) at = 0;
    const Driven& driven = loops_[at];
    if (processes_[driven.process].paused) continue;
    Loop& loop = *driven.loop;
    if (!rests(driven) && loop.turn()) {
      worked = true;  // and may have ended the loop
    } else {
      earliest = std::min(earliest, loop.next_timer().value_or(TimePoint::max()));
    }
  }
  const bool any = earliest != TimePoint::max();
  if (any && (!next || earliest < *next)) next = earliest;
  return worked;
}

std::optional<TimePoint> SimNetwork::next_timer() const noexcept {
  std::optional<TimePoint> earliest;
  for (const Driven& driven : loops_) {
    if (processes_[driven.process].paused) continue;
    const std::optional<TimePoint> due = driven.loop->next_timer();
    if (due && (!earliest || *due < *earliest)) earliest = due;
  }
  return earliest;
}

bool SimNetwork::deliver_due() {
  bool delivered = false;
  while (const std::optional<SimEvent> event = agenda_.take_due(now())) {
    ++stats_.events;
    happen(*event);
    delivered = true;
  }
  return delivered;
}

void SimNetwork::happen(const SimEvent& event) {
  switch (event.kind) {
    case Kind::message_arrives:
      return message_arrives(event);
    case Kind::payload_half_landed:
    case Kind::payload_landed:
      return payload_moves(event);
    case Kind::payload_acknowledged:
      return payload_acknowledged(event);
    case Kind::end_gone:
      return end_gone(event.index, event.side);
    case Kind::connect_attempt:
      return connect_attempt(event);
    case Kind::partition_noticed:
      return partition_noticed(event);
  }
}

void SimNetwork::at(TimePoint when, Kind kind, SimName what, std::uint8_t side) {
  SimEvent event;
  event.when = when;
  event.index = what.index;
  event.generation = what.generation;
  event.kind = kind;
  event.side = side;
  agenda_.add(event);
}

Duration SimNetwork::delay(std::uint32_t a, std::uint32_t b) noexcept {
  return random_.between(faults_.min_delay, faults_.max_delay) + processes_[a].slowness +
         processes_[b].slowness;
}

// --- First contact. ---

Result<Address> SimNetwork::listen(SimFabric& fabric, const Address& address) {
  if (fabric.killed_) return fail(Errc::unavailable, "the process is dead");
  Address real = address;
  if (real.ends_with(":0")) real.replace(real.size() - 1, 1, std::to_string(next_port_++));
  if (!listeners_.try_emplace(real, &fabric).second) {
    return fail(Errc::unavailable, "address in use", EADDRINUSE);
  }
  return real;
}

SimName SimNetwork::start_connect(SimFabric& fabric, Address to, TimePoint deadline,
                                  Completion& settled) {
  const SimName name = connects_.add();
  const Duration there_and_back = 2 * delay(fabric.process_, fabric.process_);
  connects_[name.index] = {&fabric, std::move(to), deadline, now() + there_and_back, &settled, {}};
  at(std::min(deadline, now() + there_and_back), Kind::connect_attempt, name);
  return name;
}

PeerId SimNetwork::end_connect(SimName name) {
  const PeerId peer = connects_[name.index].peer;
  connects_.remove(name.index);
  return peer;
}

void SimNetwork::connect_attempt(const SimEvent& event) {
  SimConnect* attempt = connects_.find({event.index, event.generation});
  if (attempt == nullptr || attempt->settled == nullptr) return;
  const auto settle = [attempt](const Result<>& outcome) {
    std::exchange(attempt->settled, nullptr)->finish(outcome);
  };
  // After a while too: whoever tries again and again lets time pass.
  if (attempt->fabric->killed_) return settle(fail(Errc::unavailable, "the process is dead"));
  if (now() < attempt->answer_at) return settle(fail(Errc::timed_out, "connect"));
  const auto listener = listeners_.find(attempt->to);
  if (listener == listeners_.end()) {
    return settle(fail(Errc::unavailable, "nobody listens", ECONNREFUSED));
  }
  SimFabric& to = *listener->second;
  const std::uint32_t from_process = attempt->fabric->process_;
  if (blocked(from_process, to.process_) || blocked(to.process_, from_process) ||
      processes_[to.process_].paused || random_.chance(faults_.loss)) {
    if (now() >= attempt->deadline) return settle(fail(Errc::timed_out, "connect"));
    attempt->answer_at = now() + faults_.connect_retry;
    const TimePoint next = std::min(attempt->answer_at, attempt->deadline);
    return at(next, Kind::connect_attempt, {event.index, event.generation});
  }
  attempt->peer = join(*attempt->fabric, to);
  settle({});
}

// --- Connections. ---

PeerId SimNetwork::join(SimFabric& from, SimFabric& to) {
  ++stats_.connections;
  const auto index = static_cast<std::uint32_t>(links_.size());
  SimLink& link = links_.emplace_back();
  for (std::size_t i = 0; i < link.binding.size(); i += sizeof(std::uint64_t)) {
    const std::uint64_t bits = random_.next();
    std::memcpy(link.binding.data() + i, &bits, sizeof bits);
  }
  for (std::uint8_t side = 0; side < 2; ++side) {
    SimFabric& fabric = side == 0 ? from : to;
    fabric.peers_.push_back({index, side});
    link.ends[side].fabric = &fabric;
    link.ends[side].process = fabric.process_;
    link.ends[side].peer = PeerId{fabric.peers_.size()};
  }
  return link.ends[0].peer;
}

void SimNetwork::break_link(std::uint32_t index) {
  SimLink& link = links_[index];
  if (!link.up) return;
  link.up = false;
  for (std::uint8_t side = 0; side < 2; ++side) {
    if (link.ends[side].state != SimEnd::State::open) continue;
    const Duration notice = random_.between(faults_.min_notice, faults_.max_notice);
    at(now() + notice, Kind::end_gone, {index, 0}, side);
  }
}

void SimNetwork::end_gone(std::uint32_t index, std::uint8_t side) {
  SimLink& link = links_[index];
  SimEnd& end = link.ends[side];
  if (end.state == SimEnd::State::gone) return;
  const bool tell = end.state == SimEnd::State::open;
  end.state = SimEnd::State::gone;
  for (std::size_t i = link.transfers.size(); i-- > 0;) {
    const std::uint32_t number = link.transfers[i];
    SimTransfer& transfer = transfers_[number];
    Completion*& mine = transfer.from == side ? transfer.sent : transfer.received;
    if (mine != nullptr) {
      std::exchange(mine, nullptr)->finish(fail(Errc::peer_lost, "the connection was lost"));
    } else if (transfer.from == side || !along_.contains(number)) {
      continue;
    }
    end_transfer_if_done(number);
  }
  for (Completion* closer : std::exchange(end.closers, {})) closer->finish({});
  if (tell) arrive(*end.fabric, {true, 0, {index, side}});
}

void SimNetwork::arrive(SimFabric& fabric, const SimArrival& arrival) {
  fabric.arrivals_.push_back(arrival);
  ++arrivals_;
}

bool SimNetwork::close(SimEndName name, Completion& quiet) {
  SimLink& link = links_[name.link];
  SimEnd& end = link.ends[name.side];
  end.silenced = true;
  if (end.state == SimEnd::State::gone) return false;
  end.closers.push_back(&quiet);
  if (end.state == SimEnd::State::closing) return true;
  break_link(name.link);
  end.state = SimEnd::State::closing;
  at(now() + delay(end.process, end.process), Kind::end_gone, {name.link, 0}, name.side);
  return true;
}

void SimNetwork::cut_off(SimFabric& fabric) {
  std::erase_if(listeners_, [&](const auto& known) { return known.second == &fabric; });
  for (const SimEndName& name : fabric.peers_) {
    break_link(name.link);
    end_gone(name.link, name.side);
  }
}

void SimNetwork::hand_over_loss(SimEndName name) {
  SimEnd& end = links_[name.link].ends[name.side];
  if (std::exchange(end.silenced, true)) return;
  check(end.fabric->receiver_ != nullptr, "a fabric without a receiver has a peer");
  const Error why{Errc::peer_lost, 0, "the connection was lost"};
  end.fabric->receiver_->on_lost(end.peer, why);
}

}  // namespace membrain
