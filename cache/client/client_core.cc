// The client: how it begins and ends, and what its control loop does.
#include "cache/client/client_core.h"

#include <limits>
#include <utility>

#include "cache/client/deadline.h"
#include "cache/client/grant.h"
#include "cache/client/lookup.h"
#include "transport/deliver.h"

namespace membrain {

namespace {

OpenedNamespace opened_from(const wire::NamespaceOpened& opened) noexcept {
  return {opened.id.value, opened.era.value, opened.other_seed};
}

}  // namespace

ClientCore::ClientCore(Fabric& control, Fabric& data, ClientConfig config, std::string host,
                       std::unique_ptr<ArenaOpener> opener,
                       std::vector<std::unique_ptr<DeviceLane>> devices,
                       std::unique_ptr<Windows> windows)
    : control_(control),
      data_(data),
      config_(std::move(config)),
      desk_(std::make_shared<PinDesk>([this] {
        return control_.loop().inbox().post([this] { take_released(); }).has_value();
      })),
      reservations_(std::make_shared<ReservationDesk>(
          [this] { return data_.loop().inbox().post([this] { take_given_back(); }).has_value(); })),
      session_(control, config_, *this),
      mapped_(control.loop(), std::move(opener), host),
      devices_(std::move(devices)),
      host_fetch_([this](auto match, auto items, auto options, auto cancel) {
        return fetch_to_host(std::move(match), std::move(items), std::move(options),
                             std::move(cancel));
      }),
      links_(data, std::move(host), config_.connect_timeout),
      windows_(std::move(windows)),
      node_windows_(windows_ ? std::make_unique<NodeWindows>(links_, *windows_) : nullptr),
      drain_signal_(data.loop().ready()),
      background_(
          data.loop(), config_.background_store_bytes, background_call(),
          [this] { return fetches_ != 0; }, [this] { drain_signal_.raise(); }) {}

BackgroundStore::Store ClientCore::background_call() {
  return [this](OpenedNamespace space, StoreList list, PieceMemory memory,
                std::shared_ptr<CancelToken> cancel) {
    TransferOptions options;
    options.memory = memory;
    return store(space, std::move(list), std::move(options), std::move(cancel));
  };
}

Result<DeviceLane*> ClientCore::lane_of(const PieceMemory& memory) const {
  if (memory.device == PieceMemory::kHost) return nullptr;
  for (const std::unique_ptr<DeviceLane>& lane : devices_) {
    if (lane->ordinal() == memory.device) return lane.get();
  }
  return fail(Errc::invalid_argument, "a GPU that ClientConfig::devices does not name");
}

ClientCore::~ClientCore() {
  check(!started_, "a ClientCore was destroyed before it was stopped");
  desk_->close();
  reservations_->close();
}

TimePoint ClientCore::deadline_of(Loop& loop, std::chrono::milliseconds timeout) const {
  const bool named = timeout > timeout.zero();
  return deadline_after(loop.now(), named ? timeout : config_.default_timeout);
}

Task<Result<>> ClientCore::start() {
  Task<Result<>> begun = session_.start();
  const Result<> outcome = co_await begun;
  started_ = outcome.has_value();
  Task<> mapped = started_ ? mapped_.settle() : mapped_.stop();
  co_await mapped;
  Task<> settled = settle_data();
  co_await settled;
  co_return outcome;
}

Task<> ClientCore::stop() {
  Loop& control = control_.loop();
  Loop& data = data_.loop();
  Completion drained(control.ready());
  const auto drain = [this, &data, &drained] { data.spawn(drain_transfers(drained)); };
  Task<> delivered = deliver(control, data, drain);
  co_await delivered;
  const Result<> outcome = co_await drained;
  check(outcome.has_value(), "draining does not fail");
  Task<> stopped = session_.stop();
  co_await stopped;
  Task<> unmapped = mapped_.stop();
  co_await unmapped;
  desk_->close();
  reservations_->close();
  Task<> settled = settle_data();  // nothing of ours is left in either inbox
  co_await settled;
  started_ = false;
}

Task<> ClientCore::settle_data() {
  Loop& control = control_.loop();
  Loop& data = data_.loop();
  Completion settled(control.ready());
  const auto finish = [&settled] { settled.finish({}); };
  const auto answer = [&control, &data, finish] { data.spawn(deliver(data, control, finish)); };
  Task<> delivered = deliver(control, data, answer);
  co_await delivered;
  const Result<> outcome = co_await settled;
  check(outcome.has_value(), "settling does not fail");
}

void ClientCore::on_here(const wire::SessionProof& proof) {
  const auto job = [this, proof] {
    proof_ = proof;
    server_here_ = true;
    links_.lanes().stir(proof.session.value);
  };
  control_.loop().spawn(deliver(control_.loop(), data_.loop(), job));
}

void ClientCore::on_away() {
  const auto job = [this] { server_here_ = false; };
  control_.loop().spawn(deliver(control_.loop(), data_.loop(), job));
}

void ClientCore::on_nodes(const std::vector<wire::NodeEntry>& nodes) {
  mapped_.update(nodes);
  const auto job = [this, nodes] { links_.update(nodes); };
  control_.loop().spawn(deliver(control_.loop(), data_.loop(), job));
}

void ClientCore::take_released() {
  for (const LookupId lookup : desk_->take()) session_.release(lookup);
}

Task<Result<OpenedNamespace>> ClientCore::open_namespace(Namespace space, ReplicaOptions replicas) {
  space.tenant = config_.tenant;  // a session reads nobody else's
  const Digest digest = digest_of(space);
  wire::OpenNamespace request;
  request.digest = digest;
  request.family = family_of(space);
  request.label = space.model.substr(0, wire::kMaxTextBytes);
  request.replicas = replicas.replicas;
  request.zones = static_cast<wire::ZoneRule>(replicas.zones);
  const TimePoint deadline = deadline_of(control_.loop(), {});
  Task<Result<wire::NamespaceOpened>> opening = session_.open(std::move(request), deadline);
  const Result<wire::NamespaceOpened> opened = co_await opening;
  if (!opened) co_return fail(opened.error());
  auto maker = std::make_shared<const KeyMaker>(digest, session_.tenant_key());
  keys_.insert_or_assign(opened->id, maker);
  const NamespaceId id = opened->id;
  const auto job = [this, id, maker] { data_keys_.insert_or_assign(id, maker); };
  Task<> told = deliver(control_.loop(), data_.loop(), job);
  co_await told;
  Task<> settled = settle_data();
  co_await settled;
  co_return opened_from(*opened);
}

Task<Result<Match>> ClientCore::lookup(OpenedNamespace space, std::vector<BlockHash> hashes,
                                       LookupOptions options) {
  const auto maker = keys_.find(NamespaceId{space.id});
  if (maker == keys_.end()) {
    co_return fail(Errc::invalid_argument, "this client did not open that namespace");
  }
  LookupPlan plan;
  plan.space = space;
  plan.options = options;
  plan.deadline = deadline_of(control_.loop(), options.timeout);
  plan.keys.reserve(hashes.size());
  for (const BlockHash& hash : hashes) {
    if (hash.empty()) co_return fail(Errc::invalid_argument, "a block to look up has no hash");
    plan.keys.push_back(maker->second->key(hash));
  }
  const TimePoint deadline = plan.deadline;
  Task<Result<std::shared_ptr<Match::State>>> looking = look_up(session_, desk_, std::move(plan));
  const Result<std::shared_ptr<Match::State>> found = co_await looking;
  if (!found) co_return fail(found.error());
  Match match(*found);
  Task<> learned = learn_nodes(*found, deadline);
  co_await learned;
  co_return std::move(match);
}

/// Replicas on nodes that came after the last list are of no use without their addresses.
Task<> ClientCore::learn_nodes(std::shared_ptr<const Match::State> state, TimePoint deadline) {
  Location last;  // most blocks of a prompt are on few nodes
  const auto known = [this, &last](const FoundReplica& replica) {
    const Location& at = replica.at;
    if (at.node == last.node && at.incarnation == last.incarnation) return true;
    last = at;
    return session_.knows(at.node, at.incarnation);
  };
  if (std::all_of(state->replicas.begin(), state->replicas.end(), known)) co_return;
  Task<> refreshed = session_.refresh_nodes(deadline);
  co_await refreshed;
  Task<> settled = settle_data();
  co_await settled;
}

Task<Result<std::vector<std::byte>>> ClientCore::grant(std::shared_ptr<const Match::State> match,
                                                       std::chrono::milliseconds valid) {
  if (!match || match->desk != desk_ || match->released) {
    co_return fail(Errc::invalid_argument, "only a match of this client that pins can be granted");
  }
  const TimePoint deadline = deadline_of(control_.loop(), {});
  constexpr std::int64_t kLongest = std::numeric_limits<std::uint32_t>::max();
  std::vector<wire::SessionProof> proofs;
  for (const Claim& claim : match->claims) {
    const auto valid_ms =
        static_cast<std::uint32_t>(std::clamp<std::int64_t>(valid.count(), 1, kLongest));
    Task<Result<wire::Granted>> asked = session_.grant(claim.lookup, valid_ms, deadline);
    const Result<wire::Granted> granted = co_await asked;
    if (!granted) co_return fail(granted.error());
    proofs.push_back(granted->proof);
  }
  co_return encode_grant(*match, proofs);
}

Task<Result<Match>> ClientCore::adopt(std::vector<std::byte> grant) {
  const Result<std::shared_ptr<Match::State>> state = decode_grant(grant);
  if (!state) co_return fail(state.error());
  const TimePoint deadline = deadline_of(control_.loop(), {});
  Task<> learned = learn_nodes(*state, deadline);
  co_await learned;
  co_return Match(*state);
}

Task<Result<OpenedNamespace>> ClientCore::clear(OpenedNamespace space) {
  wire::Clear request;
  request.space = NamespaceId{space.id};
  request.era = Era{space.era};
  const TimePoint deadline = deadline_of(control_.loop(), {});
  Task<Result<wire::Cleared>> asked = session_.clear(request, deadline);
  const Result<wire::Cleared> cleared = co_await asked;
  if (!cleared) co_return fail(cleared.error());
  space.era = cleared->era.value;
  co_return space;
}

Task<Result<std::map<std::string, std::uint64_t>>> ClientCore::server_stats() {
  Task<Result<std::map<std::string, std::uint64_t>>> asked =
      session_.stats(deadline_of(control_.loop(), {}));
  co_return co_await asked;
}

}  // namespace membrain
