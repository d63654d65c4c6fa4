// The client's data loop: transfers, and what they ask the control loop for.
#include <algorithm>
#include <utility>

#include "cache/client/block_meta.h"
#include "cache/client/client_core.h"
#include "cache/client/fetch.h"
#include "cache/client/part_probe.h"
#include "cache/client/slot_return.h"
#include "cache/client/store.h"
#include "cache/memory/straight.h"
#include "transport/deliver.h"

namespace membrain {

namespace {

/// Has the control loop run `start(done)`, and waits until that has finished `done`, on the data
/// loop.
template <class Start>
Task<> ask_control(Loop& data, Loop& control, Start start) {
  Completion done(data.ready());
  const auto ask = [&control, &done, &start] { control.spawn(start(done)); };
  Task<> delivered = deliver(data, control, ask);
  co_await delivered;
  const Result<> outcome = co_await done;
  check(outcome.has_value(), "what the control loop is asked for reports no failure");
}

}  // namespace

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
  const auto refresh = [this, deadline](Completion& renewed) {
    return refresh_for_data(deadline, renewed);
  };
  Task<> renewing = ask_control(data_.loop(), control_.loop(), refresh);
  co_await renewing;
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
  const auto want = [this, node](Completion& asked) { return want_writable_for_data(node, asked); };
  Task<> asking = ask_control(data_.loop(), control_.loop(), want);
  co_await asking;
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
