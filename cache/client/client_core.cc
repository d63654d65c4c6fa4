#include "cache/client/client_core.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "cache/client/block_meta.h"
#include "cache/client/fetch.h"
#include "cache/client/grant.h"
#include "cache/client/lookup.h"
#include "cache/client/part_probe.h"
#include "cache/client/slot_return.h"
#include "cache/client/store.h"
#include "cache/memory/straight.h"
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
  return loop.now() + (timeout > timeout.zero() ? timeout : config_.default_timeout);
}

// ---- control loop

Task<Result<>> ClientCore::start() {
  Task<Result<>> begun = session_.start();
  const Result<> outcome = co_await begun;
  started_ = outcome.has_value();
  Task<> mapped = mapped_.settle();
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
  return session_.stats(deadline_of(control_.loop(), {}));
}

// ---- data loop

Result<> ClientCore::transfer_begins() {
  if (draining_) return fail(Errc::unavailable, "the client is closing");
  if (transfers_ == kMaxTransfers) return fail(Errc::out_of_capacity, "transfers under way");
  ++transfers_;
  return {};
}

void ClientCore::transfer_ended() noexcept {
  --transfers_;
  drain_signal_.raise();
}

Task<Result<TransferReport>> ClientCore::fetch(std::shared_ptr<const Match::State> match,
                                               FetchList items, TransferOptions options,
                                               std::shared_ptr<CancelToken> cancel) {
  const Result<DeviceLane*> lane = lane_of(options.memory);
  if (!lane) co_return fail(lane.error());
  if (const Result<> begun = transfer_begins(); !begun) co_return fail(begun.error());
  ++fetches_;
  const TimePoint deadline = deadline_of(data_.loop(), options.timeout);
  Task<Result<TransferReport>> fetching =
      *lane == nullptr
          ? fetch_to_host(std::move(match), std::move(items), std::move(options), std::move(cancel))
          : fetch_to_device(**lane, {std::move(options), std::move(cancel), deadline},
                            std::move(match), std::move(items), host_fetch_,
                            {[this] { return arenas(); }, config_.verify_checksums});
  Result<TransferReport> report = co_await fetching;
  if (--fetches_ == 0) background_.fetch_ended();
  transfer_ended();
  co_return std::move(report);
}

Task<Result<TransferReport>> ClientCore::fetch_to_host(std::shared_ptr<const Match::State> match,
                                                       FetchList items, TransferOptions options,
                                                       std::shared_ptr<CancelToken> cancel) {
  FetchJob job;
  job.deadline = deadline_of(data_.loop(), options.timeout);
  job.match = std::move(match);
  job.items = std::move(items);
  job.options = std::move(options);
  job.cancel = std::move(cancel);
  job.proof = proof_;
  job.window = config_.fetch_window_blocks;
  job.verify = config_.verify_checksums;
  job.windows = node_windows_.get();
  return fetch_blocks(links_, std::move(job));
}

Task<Result<TransferReport>> ClientCore::store(OpenedNamespace space, StoreList list,
                                               TransferOptions options,
                                               std::shared_ptr<CancelToken> cancel) {
  const Result<DeviceLane*> lane = lane_of(options.memory);
  if (!lane) co_return fail(lane.error());
  if (!data_keys_.contains(NamespaceId{space.id})) {
    co_return fail(Errc::invalid_argument, "this client did not open that namespace");
  }
  if (!server_here_) co_return fail(Errc::unavailable, "the server is away");
  if (const Result<> begun = transfer_begins(); !begun) co_return fail(begun.error());
  const TimePoint deadline = deadline_of(data_.loop(), options.timeout);
  const HostStore onward = [this, space](auto staged, auto terms, auto token) {
    return store_from_host(space, std::move(staged), std::move(terms), std::move(token),
                           Asked::yes);
  };
  const AskKnown known = [this, space, deadline](const StoreList& wanted) {
    return ask_known(space, wanted, deadline);
  };
  Task<Result<TransferReport>> storing =
      *lane == nullptr
          ? store_from_host(space, std::move(list), std::move(options), std::move(cancel),
                            Asked::no)
          : store_from_device(**lane, {std::move(options), std::move(cancel), deadline},
                              std::move(list), onward, known, takes_straight(space));
  Result<TransferReport> report = co_await storing;
  transfer_ended();
  co_return std::move(report);
}

Task<Result<TransferReport>> ClientCore::store_from_host(OpenedNamespace space, StoreList list,
                                                         TransferOptions options,
                                                         std::shared_ptr<CancelToken> cancel,
                                                         Asked asked) {
  StoreJob job;
  job.deadline = deadline_of(data_.loop(), options.timeout);
  if (!links_.any_place()) {
    Task<> renewed = renew_nodes(job.deadline);
    co_await renewed;
  }
  job.space = space;
  job.keys = data_keys_.at(NamespaceId{space.id});
  job.list = std::move(list);
  job.options = std::move(options);
  job.cancel = std::move(cancel);
  job.proof = proof_;
  job.probe_bytes = asked == Asked::yes ? kNoProbe : config_.probe_store_bytes;
  job.ask_parts = parts_call();
  if (mapped_.arenas()) job.writable = [this](NodeId node) { return writable(node); };
  Task<Result<TransferReport>> storing = store_blocks(links_, std::move(job));
  co_return co_await storing;
}

Task<Result<TransferReport>> ClientCore::share(OpenedNamespace space, StoreList list,
                                               TransferOptions options,
                                               std::shared_ptr<CancelToken> cancel,
                                               std::function<Result<>(SharedBlock)> put) {
  const Result<DeviceLane*> lane = lane_of(options.memory);
  if (!lane) co_return fail(lane.error());
  if (*lane == nullptr) co_return fail(Errc::invalid_argument, "only a GPU's blocks are shared");
  const auto keys = data_keys_.find(NamespaceId{space.id});
  if (keys == data_keys_.end()) {
    co_return fail(Errc::invalid_argument, "this client did not open that namespace");
  }
  if (const Result<> begun = transfer_begins(); !begun) co_return fail(begun.error());
  const TimePoint deadline = deadline_of(data_.loop(), options.timeout);
  ShareJob job;
  job.list = std::move(list);
  job.meta = [space, maker = keys->second](const StoreItem& item) {
    return meta_of(space, *maker, item);
  };
  job.put = std::move(put);
  Task<Result<TransferReport>> sharing =
      share_from_device(**lane, {std::move(options), std::move(cancel), deadline}, std::move(job));
  Result<TransferReport> report = co_await sharing;
  transfer_ended();
  co_return std::move(report);
}

Task<std::vector<bool>> ClientCore::ask_known(OpenedNamespace space, const StoreList& list,
                                              TimePoint deadline) {
  std::vector<bool> known(list.items.size());
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < known.size(); ++i) bytes += list.bytes(i);
  if (bytes < config_.probe_store_bytes || known.empty()) co_return known;
  const std::shared_ptr<const KeyMaker> keys = data_keys_.at(NamespaceId{space.id});
  std::vector<wire::PartName> parts;
  parts.reserve(known.size());
  for (const StoreItem& item : list.items) parts.push_back({keys->key(item.hash), item.part});
  Loop& loop = data_.loop();
  PartProbe probe(loop.ready(), NamespaceId{space.id}, Era{space.era}, parts);
  probe.ask(parts_call(), std::min(deadline, loop.now() + Storing::kProbePatience));
  Completion& answered = probe.answered();
  const Result<> outcome = co_await answered;
  for (std::size_t i = 0; i < known.size() && outcome; ++i) known[i] = probe.known(i);
  co_return known;
}

/// Its node is connected, and takes it from there: who is not yet connected gets it staged.
TakesStraight ClientCore::takes_straight(OpenedNamespace space) {
  return [this, keys = data_keys_.at(NamespaceId{space.id})](const StoreItem& item) {
    const NodeId node = choose_node(links_.places(), keys->key(item.hash), NodeId{});
    return may_leave(data_.device_payloads(links_.connected(node)), false);
  };
}

AskParts ClientCore::parts_call() {
  return
      [this](wire::ProbeParts request, TimePoint patience, wire::ProbedParts& answer,
             Completion& answered) { ask_parts(std::move(request), patience, answer, answered); };
}

Task<Result<std::vector<Reservation>>> ClientCore::reserve(OpenedNamespace space,
                                                           std::vector<ReserveItem> items,
                                                           std::chrono::milliseconds valid) {
  const auto maker = data_keys_.find(NamespaceId{space.id});
  if (maker == data_keys_.end()) {
    co_return fail(Errc::invalid_argument, "this client did not open that namespace");
  }
  if (const Result<> fine = check_reserve(items); !fine) co_return fail(fine.error());
  if (!server_here_) co_return fail(Errc::unavailable, "the server is away");
  if (!mapped_.arenas()) co_return fail(Errc::unavailable, "no node of this host is mapped");
  if (const Result<> begun = transfer_begins(); !begun) co_return fail(begun.error());
  ReserveJob job;
  job.space = space;
  job.keys = maker->second;
  job.items = std::move(items);
  job.proof = proof_;
  job.deadline = deadline_of(data_.loop(), valid);
  job.ask_parts = parts_call();
  job.writable = [this](NodeId node) { return writable(node); };
  job.desk = reservations_;
  Task<std::vector<Reservation>> reserving = reserve_blocks(links_, std::move(job));
  std::vector<Reservation> reserved = co_await reserving;
  transfer_ended();
  co_return std::move(reserved);
}

Task<Result<TransferReport>> ClientCore::seal(std::vector<WrittenBlock> blocks,
                                              std::chrono::milliseconds timeout) {
  if (const Result<> begun = transfer_begins(); !begun) co_return fail(begun.error());
  SealJob job;
  job.blocks = std::move(blocks);
  job.proof = proof_;
  job.deadline = deadline_of(data_.loop(), timeout);
  Task<TransferReport> sealing = seal_blocks(links_, std::move(job));
  TransferReport report = co_await sealing;
  transfer_ended();
  co_return std::move(report);
}

void ClientCore::take_given_back() {
  for (const HeldSlot& slot : reservations_->take()) give_back(links_, *slot.arena, {slot.at});
}

Task<> ClientCore::renew_nodes(TimePoint deadline) {
  Loop& control = control_.loop();
  Completion renewed(data_.loop().ready());
  const auto ask = [this, &control, &renewed, deadline] {
    control.spawn(refresh_for_data(deadline, renewed));
  };
  Task<> delivered = deliver(data_.loop(), control, ask);
  co_await delivered;
  const Result<> outcome = co_await renewed;
  check(outcome.has_value(), "a refresh reports no failure");
}

Task<> ClientCore::refresh_for_data(TimePoint deadline, Completion& renewed) {
  Task<> refreshed = session_.refresh_nodes(deadline);
  co_await refreshed;
  const auto finish = [&renewed] { renewed.finish({}); };
  Task<> delivered = deliver(control_.loop(), data_.loop(), finish);
  co_await delivered;
}

Task<std::shared_ptr<const WritableArena>> ClientCore::writable(NodeId node) {
  const std::shared_ptr<const ArenaSet> arenas = mapped_.arenas();
  if (!arenas) co_return nullptr;
  if (!arenas->may_become_writable(node)) co_return arenas->writable(node);
  Loop& control = control_.loop();
  Completion asked(data_.loop().ready());
  const auto ask = [this, &control, &asked, node] {
    control.spawn(want_writable_for_data(node, asked));
  };
  Task<> delivered = deliver(data_.loop(), control, ask);
  co_await delivered;
  const Result<> outcome = co_await asked;
  check(outcome.has_value(), "wanting an arena reports no failure");
  const std::shared_ptr<const ArenaSet> now = mapped_.arenas();
  co_return now ? now->writable(node) : nullptr;
}

Task<> ClientCore::want_writable_for_data(NodeId node, Completion& asked) {
  Completion opened(control_.loop().ready());
  mapped_.want_writable(node, opened);
  const Result<> outcome = co_await opened;
  check(outcome.has_value(), "wanting an arena reports no failure");
  const auto finish = [&asked] { asked.finish({}); };
  Task<> delivered = deliver(control_.loop(), data_.loop(), finish);
  co_await delivered;
}

void ClientCore::ask_parts(wire::ProbeParts request, TimePoint deadline, wire::ProbedParts& answer,
                           Completion& answered) {
  const auto ask = [this, request = std::move(request), deadline, &answer, &answered] {
    control_.loop().spawn(probe_for_data(request, deadline, answer, answered));
  };
  data_.loop().spawn(deliver(data_.loop(), control_.loop(), ask));
}

Task<> ClientCore::probe_for_data(wire::ProbeParts request, TimePoint deadline,
                                  wire::ProbedParts& answer, Completion& answered) {
  Task<Result<wire::ProbedParts>> asked = session_.probe_parts(std::move(request), deadline);
  const Result<wire::ProbedParts> probed = co_await asked;
  const auto hand_over = [&answer, &answered, known = probed.value_or(wire::ProbedParts{})] {
    answer = known;
    answered.finish({});
  };
  Task<> delivered = deliver(control_.loop(), data_.loop(), hand_over);
  co_await delivered;
}

Task<> ClientCore::drain_transfers(Completion& drained) {
  draining_ = true;
  background_.close();
  while (transfers_ != 0 || !background_.idle()) co_await drain_signal_;
  Task<> stopped = links_.stop();
  co_await stopped;
  if (node_windows_) {
    Task<> closed = node_windows_->stop();
    co_await closed;
  }
  const auto finish = [&drained] { drained.finish({}); };
  Task<> delivered = deliver(data_.loop(), control_.loop(), finish);
  co_await delivered;
}

}  // namespace membrain
