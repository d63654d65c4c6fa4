// UcxFabric: connections, and the turn of the loop. Messages are in ucx_messages.cc.
#include "transport/ucx/ucx_fabric.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/mac.h"
#include "transport/ucx/name_lookup.h"
#include "transport/ucx/peer_fabric.h"
#include "transport/ucx/region.h"

namespace membrain {

namespace {

/// How often UCX is progressed in a turn, if it brings no message.
constexpr int kProgressPerTurn = 32;
/// A forced close whose operations have not ended by then has them on another endpoint of the same
/// pair of workers (UCX pairs endpoints by the order in which both sides create them).
constexpr Duration kSiblingPatience = std::chrono::seconds(2);
/// How long a fabric's end waits for its connections'.
constexpr Duration kEndPatience = std::chrono::seconds(5);

std::uint64_t random_token() noexcept {
  std::uint64_t token = 0;
  while (token == 0) token = random_u64();
  return token;
}

}  // namespace

Result<std::unique_ptr<Fabric>> make_ucx_fabric(std::shared_ptr<UcxContext> context, Loop& loop,
                                                UcxFabricConfig config) {
  return UcxFabric::create(std::move(context), loop, std::move(config));
}

Result<std::unique_ptr<Fabric>> UcxFabric::create(std::shared_ptr<UcxContext> context, Loop& loop,
                                                  UcxFabricConfig config) {
  const std::shared_ptr<UcxSurroundings> around = config.around;
  const Inside inside(around);
  std::unique_ptr<UcxFabric> fabric(new UcxFabric(std::move(context), loop, std::move(config)));
  Result<std::unique_ptr<UcxWorker>> worker = fabric->make_worker();
  if (!worker) return fail(worker.error());
  fabric->worker_ = std::move(*worker);
  loop.add_source(*fabric);
  return std::unique_ptr<Fabric>(std::move(fabric));
}

UcxFabric::UcxFabric(std::shared_ptr<UcxContext> context, Loop& loop, UcxFabricConfig config)
    : context_(std::move(context)),
      loop_(loop),
      label_(std::move(config.label)),
      around_(std::move(config.around)),
      fabric_id_(random_u64()),
      no_doubts_(loop,
                 [this] {
                   const Inside inside(around_);
                   probe_.rest();
                 }),
      contacts_(
          loop, std::move(config.secret), [this] { return make_card(); }, *this) {}

UcxFabric::~UcxFabric() {
  check(waiting_ == 0, "a fabric was destroyed under a connect or a close");
  const Inside inside(around_);
  loop_.remove_source(*this);
  for (const auto& [id, connection] : connections_) {
    connection->report_loss = false;
    begin_close(*connection);
  }
  const TimePoint until = clock_.now() + kEndPatience;
  while (!connections_.empty() && clock_.now() < until) {
    const bool worked = progress_worker();
    Arrivals::Batch& late = arrivals_.take();
    for (const Arrival& arrival : late.messages) release(arrival.connection, arrival.data);
    if (advance_closing() || worked) continue;
    pollfd worker{worker_->event_fd(), POLLIN, 0};
    ::poll(&worker, 1, 1);
  }
  if (!connections_.empty()) {
    log(LogLevel::warn, "fabric {}: {} connections did not end in time", label_,
        connections_.size());
  }
  probe_.rest();
  retired_.clear();
  worker_.reset();
  pool_.abandon();
}

Card UcxFabric::make_card() {
  settle_doubt();
  const std::span<const std::byte> address = worker_->address();
  return {random_token(), fabric_id_, {address.begin(), address.end()}};
}

Connection* UcxFabric::find(PeerId peer) const noexcept {
  const auto found = connections_.find(peer.value);
  return found == connections_.end() ? nullptr : found->second.get();
}

std::string_view UcxFabric::lane(PeerId peer) const noexcept {
  const Connection* connection = find(peer);
  return connection == nullptr ? "tcp" : connection->lane;
}

std::string UcxFabric::route(PeerId peer) const {
  const Connection* connection = find(peer);
  return connection == nullptr ? std::string() : connection->route();
}

std::array<std::byte, 32> UcxFabric::binding(PeerId peer) const noexcept {
  const Connection* connection = find(peer);
  return connection == nullptr ? std::array<std::byte, 32>{} : connection->binding;
}

Result<std::unique_ptr<Region>> UcxFabric::register_memory(std::span<std::byte> memory) {
  return UcxRegion::create(context_, memory, MemoryKind::host);
}

Result<std::unique_ptr<Region>> UcxFabric::register_device_memory(std::span<std::byte> memory) {
  return UcxRegion::create(context_, memory, MemoryKind::cuda);
}

DevicePayloads UcxFabric::device_payloads(PeerId peer) const noexcept {
  const Connection* connection = find(peer);
  return connection == nullptr ? DevicePayloads::none : connection->devices;
}

// --- First contact. ---

Result<Address> UcxFabric::listen(const Address& address) {
  return contacts_.listen(address);
}

Task<Result<PeerId>> UcxFabric::connect(Address address, TimePoint deadline) {
  ++waiting_;
  Task<Result<SocketAddress>> looking = look_up(loop_, std::move(address), deadline);
  const Result<SocketAddress> found = co_await looking;
  --waiting_;
  if (!found) co_return fail(found.error());
  const Result<std::uint64_t> called = contacts_.call(*found, deadline);
  if (!called) co_return fail(called.error());
  Dial dial(loop_.ready());
  Timer late(loop_, [this, contact = *called] { give_up(contact); });
  late.arm(deadline);
  dials_.emplace(*called, &dial);
  ++waiting_;
  const Result<> outcome = co_await dial.settled;
  --waiting_;
  if (!outcome) co_return fail(outcome.error());
  co_return dial.peer;
}

Connection& UcxFabric::add_connection(const Contact& contact) {
  const Handshake& handshake = contact.handshake();
  const PeerId peer{next_peer_++};
  auto made = std::make_unique<Connection>(*worker_, pool_, broken_, peer, contact.id(),
                                           handshake.own().token);
  Connection& connection = *made;
  connection.peer_token = handshake.peer().token;
  connection.peer_fabric = handshake.peer().fabric;
  connection.called = handshake.role() == Handshake::Role::caller;
  connection.binding = handshake.binding();
  connections_.emplace(peer.value, std::move(made));
  by_contact_.emplace(contact.id(), &connection);
  arrivals_.expect(connection);
  return connection;
}

bool UcxFabric::on_heard(const Contact& contact) {
  add_connection(contact);
  return true;
}

bool UcxFabric::on_agreed(const Contact& contact) {
  const Inside inside(around_);
  const auto heard = by_contact_.find(contact.id());
  Connection& connection = heard == by_contact_.end() ? add_connection(contact) : *heard->second;
  // The peer knows a worker that is not ours any more: let it come again.
  const bool outdated = !std::ranges::equal(contact.handshake().own().address, worker_->address());
  if (connection.broken() || outdated) return false;
  if (connection.called && given_up_to(connection.peer_fabric) >= kMaxGivenUp) {
    settle_dial(contact.id(),
                fail(Errc::unavailable, "earlier calls still wait for the other end's hello"));
    return false;
  }
  const Result<> met = connection.meet(contact.handshake().peer().address);
  if (!met) {
    const bool foreign = met.error().native == UCS_ERR_SHMEM_SEGMENT;
    log(LogLevel::warn, "fabric {}: no endpoint: {} {} (status {}){}", label_,
        to_string(met.error().code), met.error().context, met.error().native,
        foreign ? ": is the other end another user's? UCX's shared memory joins one user's "
                  "processes; UCX_TLS=^shm for one of them keeps it out"
                : "");
    return false;
  }
  met_.push_back(&connection);
  return true;
}

void UcxFabric::open(Connection& connection) {
  connection.open();
  const auto unheard = unheard_.find(connection.peer_fabric);
  if (unheard != unheard_.end()) unheard->second.replaced = false;
  if (connection.unwanted) return begin_close(connection);
  const auto dialed = dials_.find(connection.contact);
  if (dialed != dials_.end()) dialed->second->peer = connection.id;
  settle_dial(connection.contact, {});
}

void UcxFabric::settle_dial(std::uint64_t contact, const Result<>& outcome) {
  const auto dialed = dials_.find(contact);
  if (dialed == dials_.end()) return;
  dialed->second->settled.finish(outcome);
  dials_.erase(dialed);
}

/// Its deadline has passed. A contact that has not agreed would yet, and be nobody's; a peer that
/// was not heard yet may be stopped, and go on. Or it is we who hear nobody.
void UcxFabric::give_up(std::uint64_t contact) {
  settle_dial(contact, fail(Errc::timed_out, "the other end does not say hello"));
  const auto met = by_contact_.find(contact);
  if (met == by_contact_.end()) return contacts_.drop(contact);
  Connection& connection = *met->second;
  connection.unwanted = true;
  if (connection.phase() != Connection::Phase::meeting) return;
  given_up_.push_back(&connection);
  doubt(connection);
}

std::size_t UcxFabric::given_up_to(std::uint64_t peer_fabric) const noexcept {
  const auto count = std::ranges::count(given_up_, peer_fabric, &Connection::peer_fabric);
  return static_cast<std::size_t>(count);
}

void UcxFabric::on_ended(const Contact& contact, const Error& why) {
  const Inside inside(around_);
  settle_dial(contact.id(), fail(why));
  const auto found = by_contact_.find(contact.id());
  if (found == by_contact_.end()) return;
  // What the peer sent before it ended is still taken.
  const ucp_worker_h worker = found->second->worker().handle();
  for (int i = 0; i < kProgressPerTurn && ucp_worker_progress(worker) != 0; ++i) {
  }
  doubt(*found->second);
  found->second->break_off(Error{Errc::peer_lost, why.native, why.context});
}

// --- The turn. ---

bool UcxFabric::arm() noexcept {
  const bool idle = arrivals_.empty() && broken_.empty() && met_.empty() && retired_.empty();
  if (!idle) return false;
  const Inside inside(around_);
  return worker_->arm();
}

bool UcxFabric::progress_worker() noexcept {
  bool worked = false;
  for (int i = 0; i < kProgressPerTurn && arrivals_.empty(); ++i) {
    if (ucp_worker_progress(worker_->handle()) == 0) break;
    worked = true;
  }
  for (const std::unique_ptr<UcxWorker>& worker : retired_) {
    worked |= ucp_worker_progress(worker->handle()) != 0;
  }
  return worked;
}

bool UcxFabric::progress() {
  const Inside inside(around_);
  contacts_.sweep();
  if (doubted_at_ != TimePoint::max() && clock_.now() - doubted_at_ > kDoubtPatience) {
    settle_doubt();
  }
  bool worked = progress_worker();
  worked |= hand_over_met();
  worked |= deliver();
  worked |= begin_with_broken();
  worked |= advance_closing();
  if (!retired_.empty()) end_retired();
  return worked;
}

// --- Closing. ---

Task<> UcxFabric::close(PeerId peer) {
  Connection* connection = find(peer);
  if (connection == nullptr) co_return;
  Completion gone(loop_.ready());
  connection->report_loss = false;
  connection->closers.push_back(&gone);
  {
    const Inside inside(around_);
    begin_close(*connection);
  }
  ++waiting_;
  const Result<> closed = co_await gone;
  --waiting_;
  check(closed.has_value(), "closing cannot fail");
}

void UcxFabric::begin_close(Connection& connection) {
  if (connection.phase() > Connection::Phase::open) return;
  payloads_.drop(connection, [&](const HeldBytes& data) { release(&connection, data); });
  for (const auto& [sequence, message] : connection.early) release(&connection, message.data);
  connection.early.clear();
  std::erase(met_, &connection);
  std::erase(given_up_, &connection);
  connection.begin_close(clock_.now());
  closing_.push_back(&connection);
}

bool UcxFabric::begin_with_broken() {
  if (broken_.empty()) return false;
  std::vector<Connection*> broken;
  broken.swap(broken_);
  for (Connection* connection : broken) {
    // One that a caller closes meanwhile reports to the caller.
    const bool known = connection->phase() == Connection::Phase::open;
    settle_dial(connection->contact, fail(connection->why()));
    note_unheard(*connection);
    doubt(*connection);  // UCX may tell of a loss before first contact's socket does
    begin_close(*connection);
    if (known) connection->report_loss = true;
  }
  return true;
}

bool UcxFabric::advance_closing() {
  if (closing_.empty()) return false;
  const TimePoint now = clock_.now();
  bool worked = false;
  std::vector<std::unique_ptr<Connection>> gone;
  for (std::size_t i = 0; i < closing_.size(); ++i) {
    Connection& connection = *closing_[i];
    worked |= connection.advance(now);
    if (connection.phase() < Connection::Phase::closing) continue;
    // Only now is the peer told: it would stop listening. Nobody tells us any more how it ends.
    contacts_.drop(connection.contact);
    const bool first = by_contact_.erase(connection.contact) != 0;
    if (first && connection.abandoned()) doubt(connection);
    if (connection.phase() == Connection::Phase::gone) {
      arrivals_.forget(connection, [&](const HeldBytes& data) { release(&connection, data); });
      const auto found = connections_.find(connection.id.value);
      gone.push_back(std::move(found->second));
      connections_.erase(found);
      closing_[i] = nullptr;
    } else if (now - connection.forced_at() > kSiblingPatience) {
      break_siblings(connection);
    }
  }
  std::erase(closing_, nullptr);
  for (const std::unique_ptr<Connection>& connection : gone) {
    std::erase(broken_, connection.get());
    for (Completion* closer : connection->closers) closer->finish({});
    if (connection->report_loss) receiver_->on_lost(connection->id, connection->why());
  }
  return worked;
}

void UcxFabric::break_siblings(const Connection& stuck) {
  for (const auto& [id, connection] : connections_) {
    if (connection.get() == &stuck || connection->peer_fabric != stuck.peer_fabric) continue;
    connection->break_off(Error{Errc::peer_lost, 0, "another connection of that peer is stuck"});
  }
}

}  // namespace membrain
