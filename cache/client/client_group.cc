#include "cache/client/client_group.h"

#include <memory>
#include <utility>

#include "base/log.h"
#include "cache/client/client_runtime.h"
#include "cache/client/deadline.h"
#include "cache/client/nccl_collective.h"
#include "cache/client/replicate_list.h"
#include "cache/group/replicating.h"
#include "protocol/proofs.h"
#include "transport/signal.h"

namespace membrain {

using detail::GroupState;

Group::Group(std::unique_ptr<GroupState> state) noexcept : state_(std::move(state)) {}
Group::Group(Group&&) noexcept = default;
Group& Group::operator=(Group&&) noexcept = default;
Group::~Group() = default;

std::uint32_t Group::rank() const noexcept {
  return state_->rank;
}
std::uint32_t Group::size() const noexcept {
  return state_->size;
}

namespace {

Result<> check_group(const GroupConfig& config) {
  const auto bad = [](const char* why) { return fail(Errc::invalid_argument, why); };
  if (config.name.empty() || config.name.size() > wire::kMaxTextBytes) {
    return bad("GroupConfig::name has 1 to 256 bytes");
  }
  if (config.members.size() < 2 || config.members.size() > wire::kMaxGroupMembers) {
    return bad("GroupConfig::members are 2 to 1024");
  }
  if (config.rank >= config.members.size()) return bad("GroupConfig::rank is no member's");
  return {};
}

/// What NCCL needs; no library if none is wanted, or there, which the log says.
struct NcclParts {
  std::shared_ptr<const nccl::Library> library;
  DeviceLane* lane = nullptr;
};

Result<NcclParts> load_nccl(const GroupConfig& config, const ClientCore& core) {
  NcclParts parts;
  if (config.nccl_device < 0) return parts;
  const Result<DeviceLane*> lane = core.lane_of({config.nccl_device, nullptr});
  if (!lane) return fail(lane.error());
  parts.lane = *lane;
  const auto library = nccl::Library::load();
  if (library) {
    parts.library = *library;
  } else {
    log(LogLevel::warn, "group {}: blocks come without NCCL: {}", config.name,
        library.error().context);
  }
  return parts;
}

using MakeFabric = std::function<Result<std::unique_ptr<Fabric>>()>;

/// On the data loop, whose fabric it is.
Task<Result<>> open_line(MakeFabric make, const ClientConfig& client, const GroupConfig& config,
                         NcclParts nccl, std::unique_ptr<GroupLine>& line) {
  NcclParts with = std::move(nccl);
  Result<std::unique_ptr<Fabric>> made = make();
  if (!made) co_return fail(made.error());
  GroupTerms terms;
  terms.name = config.name;
  terms.rank = config.rank;
  terms.members = config.members;
  terms.tenant_key = tenant_key(client.secret, client.tenant);
  auto opened = std::make_unique<GroupLine>(std::move(*made), std::move(terms));
  const bool own = config.listen.empty();
  const Result<Address> listening =
      opened->links.listen(own ? config.members[config.rank] : config.listen);
  if (!listening) co_return fail(listening.error());
  if (with.library) {
    opened->collective = std::make_unique<NcclCollective>(
        with.lane->loop(), std::move(with.library), with.lane->device(), with.lane->slot_bytes(),
        config.rank, opened->links.size());
  }
  line = std::move(opened);
  co_return Result<>{};
}

/// On the data loop. The line is gone when this has ended.
Task<Result<>> close_line(std::unique_ptr<GroupLine>& line) {
  co_await line->turn.take(1);
  if (line->collective) {
    Task<> closing = line->collective->close();
    co_await closing;
  }
  Task<> stopping = line->links.stop();
  co_await stopping;
  line->turn.give(1);
  line.reset();
  co_return Result<>{};
}

/// A call's place in the group's queue, which it keeps when the call has given up.
struct Turn {
  explicit Turn(ReadyQueue& ready) noexcept : news(ready) {}
  Signal news;  ///< it has come, or the call need not wait for it any more
  bool come = false;
  bool given_up = false;
};

/// Members are in step by their turns: what others say of a call that gave up is let go in its own.
Task<> await_turn(GroupLine& group, std::uint64_t sequence, std::shared_ptr<Turn> turn) {
  const std::shared_ptr<Turn> mine = std::move(turn);
  co_await group.turn.take(1);
  mine->come = true;
  mine->news.raise();
  if (!mine->given_up) co_return;
  group.links.detach(sequence);
  group.turn.give(1);
}

/// True: it is this call's turn. False at its deadline, or when it is taken back.
Task<bool> take_turn(GroupLine& group, const ReplicateJob& job, CancelToken& token) {
  Loop& loop = group.links.loop();
  const auto turn = std::make_shared<Turn>(loop.ready());
  Timer at_deadline(loop, [turn] { turn->news.raise(); });
  at_deadline.arm(job.deadline);
  token.on_request([turn] { turn->news.raise(); });
  loop.spawn(await_turn(group, job.sequence, turn));
  while (!turn->come && !token.requested() && loop.now() < job.deadline) co_await turn->news;
  token.on_request(nullptr);
  turn->given_up = !turn->come;
  co_return turn->come;
}

/// On the data loop. The group outlives it.
Task<Result<TransferReport>> replicate(GroupLine& group, ReplicateJob job,
                                       std::shared_ptr<CancelToken> cancel) {
  ReplicateJob work = std::move(job);
  const std::shared_ptr<CancelToken> token = std::move(cancel);
  Task<bool> taking = take_turn(group, work, *token);
  const bool turn = co_await taking;
  if (!turn) {
    if (token->requested()) co_return fail(Errc::cancelled, "the replication was taken back");
    co_return fail(Errc::timed_out, "the group's earlier replications took all of the time");
  }
  Replicating replicating(group.links, std::move(work));
  token->on_request([&replicating] { replicating.cancel(); });
  if (token->requested()) replicating.cancel();
  Task<Result<TransferReport>> running = replicating.run();
  Result<TransferReport> report = co_await running;
  token->on_request(nullptr);
  group.turn.give(1);
  if (token->requested()) co_return fail(Errc::cancelled, "the replication was taken back");
  co_return std::move(report);
}

}  // namespace

Result<Group> Client::join(const GroupConfig& config) {
  if (const Result<> fine = check_group(config); !fine) return fail(fine.error());
  Result<NcclParts> nccl = load_nccl(config, *runtime_->core);
  if (!nccl) return fail(nccl.error());
  auto state = std::make_unique<GroupState>();
  state->nccl_device = config.nccl_device;
  state->rank = config.rank;
  state->size = static_cast<std::uint32_t>(config.members.size());
  Loop& loop = runtime_->data_loop();
  const ClientConfig& client = runtime_->core->config();
  const MakeFabric make = [this, &client, &loop] { return runtime_->make_fabric(client, loop); };
  const Result<> opened =
      runtime_->run(loop, open_line(make, client, config, std::move(*nccl), state->line));
  if (!opened) return fail(opened.error());
  state->leave = [runtime = runtime_.get()](std::unique_ptr<GroupLine>& line) {
    runtime->run_to_its_end(runtime->data_loop(), [&line] { return close_line(line); });
  };
  return Group(std::move(state));
}

Operation<TransferReport> Client::replicate_to_async(const Group& group,
                                                     const RegisteredLayout& layout,
                                                     const Replication& blocks,
                                                     TransferOptions options) {
  ReplicateJob job;
  job.sequence = ++group.state().last_sequence;
  const Result<DeviceLane*> lane = runtime_->core->lane_of(options.memory);
  if (!lane) return runtime_->refused(lane.error());
  Result<ReplicateList> list = ReplicateList::of(layout, blocks);
  if (!list) return runtime_->refused(list.error());
  if (blocks.root >= group.size()) {
    return runtime_->refused({Errc::invalid_argument, 0, "Replication::root is no member's rank"});
  }
  if (*lane != nullptr) {
    for (const Place& place : list->places) {
      const Result<std::size_t> fits = (*lane)->chunks_of(place);
      if (!fits) return runtime_->refused(fits.error());
    }
    job.lane = *lane;
    const bool by_nccl = (*lane)->ordinal() == group.state().nccl_device;
    if (by_nccl) job.collective = group.state().line->collective.get();
    job.after = static_cast<cuda::RawEvent>(options.memory.after);
  }
  job.root = blocks.root;
  job.places = std::move(list->places);
  job.owner = list->layout;
  job.block_bytes = list->layout->block_bytes();
  job.names = list->names;
  const auto timeout =
      options.timeout.count() > 0 ? options.timeout : runtime_->core->config().default_timeout;
  job.deadline = deadline_after(runtime_->clock.now(), timeout);
  auto cancel = std::make_shared<CancelToken>();
  return Operation<TransferReport>(
      runtime_->run_transfer(replicate(*group.state().line, std::move(job), cancel), cancel));
}

Result<TransferReport> Client::replicate_to(const Group& group, const RegisteredLayout& layout,
                                            const Replication& blocks, TransferOptions options) {
  return replicate_to_async(group, layout, blocks, std::move(options)).wait();
}

}  // namespace membrain
