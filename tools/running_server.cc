#include "tools/running_server.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <future>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "base/mac.h"
#include "server/cluster/founding.h"
#include "server/cluster/static_coordination.h"
#include "tools/program.h"
#include "tools/status_json.h"
#include "transport/ucx/ucx_fabric.h"

namespace membrain {
namespace {

constexpr std::chrono::seconds kStatusPatience(2);
constexpr std::chrono::seconds kCoordinationPatience(10);
constexpr std::chrono::seconds kOneCall(2);
constexpr std::chrono::milliseconds kRetry(200);

Outcome<std::unique_ptr<Coordination>> lone_coordination(const ServerOptions& options, Loop& loop) {
  if (options.temporary) return std::make_unique<StaticCoordination>(loop);
  Result<std::unique_ptr<StateFile>> file = StateFile::open(options.state_dir);
  if (!file) {
    const int why = file.error().native;
    const std::string hint = why == EWOULDBLOCK ? "stop that one, or use another directory"
                             : why != 0         ? std::generic_category().message(why)
                                                : "restore it, or begin with an empty directory";
    return complain("the state directory {} cannot be used: {}; {}", options.state_dir,
                    in_words(file.error()), hint);
  }
  return std::make_unique<StaticCoordination>(loop, std::move(*file));
}

/// What the loop finds out, for whoever waits. Machines start in any order: etcd may come later.
Task<> find_id(Loop& loop, Coordination& coordination, std::string cluster, TimePoint deadline,
               Result<std::string>& id) {
  while (true) {
    const TimePoint patience = std::min(deadline, loop.now() + kOneCall);
    Task<Result<std::string>> asking = cluster_id(coordination, ClusterNames(cluster), patience);
    id = co_await asking;
    const bool again =
        !id && (id.error().code == Errc::unavailable || id.error().code == Errc::timed_out);
    if (!again || loop.now() + kRetry > deadline) co_return;
    const TimePoint later = loop.now() + kRetry;
    co_await loop.sleep_until(later);
  }
}

}  // namespace

RunningServer::RunningServer() : control_("server") {}

Outcome<std::unique_ptr<RunningServer>> RunningServer::start(const ServerOptions& options,
                                                             std::shared_ptr<UcxContext> context) {
  std::unique_ptr<RunningServer> server(new RunningServer);
  Loop& loop = server->control_.loop();
  const bool alone = options.etcd.alone();
  Outcome<std::unique_ptr<Coordination>> coordination =
      alone ? lone_coordination(options, loop) : connect_etcd(options.etcd, loop);
  if (!coordination) return tl::unexpected(coordination.error());
  server->coordination_ = std::move(*coordination);
  if (!alone && options.leader_watch) {
    Result<std::unique_ptr<Fabric>> made =
        make_ucx_fabric(context, loop, {options.secret, "server"});
    if (!made) return complain("UCX cannot be used: {}", in_words(made.error()));
    server->watch_fabric_ = std::move(*made);
  }
  const ShardAddresses addresses{options.listen, options.etcd.advertise,
                                 static_cast<std::uint16_t>(options.shard_ports)};
  server->threads_ = std::make_unique<ShardThreads>(std::move(context), options.secret, addresses);
  if (Outcome<> joined = server->join(options); !joined) return tl::unexpected(joined.error());
  if (options.no_admin) return server;
  Outcome<std::unique_ptr<AdminHttp>> admin =
      AdminHttp::start(options.admin, [raw = server.get()]() -> Outcome<std::string> {
        const Outcome<std::vector<ShardStatus>> status = raw->status();
        if (!status) return tl::unexpected(status.error());
        return to_json(*status);
      });
  if (!admin) return tl::unexpected(admin.error());
  server->admin_ = std::move(*admin);
  return server;
}

/// Listens, and takes part in the cluster from then on.
Outcome<> RunningServer::join(const ServerOptions& options) {
  MemberConfig member;
  member.cluster = options.etcd.cluster;
  member.address = options.etcd.advertise;
  member.name = options.etcd.name;
  member.lease = options.etcd.lease;
  member.seed = random_u64();
  membership_ = std::make_unique<Membership>(control_.loop(), *coordination_, member);
  if (!options.etcd.alone()) {
    watch_ = std::make_unique<LeaderWatch>(watch_fabric_.get(), *membership_);
  }
  ShardConfig config;
  config.secret = options.secret;
  config.expected_blocks = options.expected_blocks / options.shards;
  const Outcome<ReplicaRule> rule = options.copies.rule();
  if (!rule) return tl::unexpected(rule.error());
  config.replicas = *rule;
  config.copies = options.copies.limits();
  shards_ =
      std::make_unique<ServerShards>(*membership_, watch_.get(), *threads_, config, options.shards);
  if (const Result<> listens = shards_->listen(); !listens) {
    return complain("cannot listen on {}: {}; stop who has that port, or take another --listen",
                    options.listen, in_words(listens.error()));
  }
  control_.start();
  running_ = true;
  const TimePoint deadline = SteadyClock().now() + kCoordinationPatience;
  Result<std::string> id = std::string();
  control_.run(find_id(control_.loop(), *coordination_, member.cluster, deadline, id));
  if (!id && options.etcd.alone()) {
    return complain("the state directory {} cannot be written: {}; is its disk full?",
                    options.state_dir, in_words(id.error()));
  }
  if (!id) return complain("the cluster cannot be joined: {}", in_words(id.error()));
  if (!options.etcd.alone() && !options.temporary) {
    if (Outcome<> same = same_cluster(options.state_dir, *id); !same) return same;
  }
  control_.run(enter(deadline));
  return {};
}

/// Until it is known who leads each shard.
Task<> RunningServer::enter(TimePoint deadline) {
  membership_->start(address());
  shards_->start();
  while (!shards_->settled() && control_.loop().now() < deadline) {
    const TimePoint soon = control_.loop().now() + std::chrono::milliseconds(1);
    co_await control_.loop().sleep_until(soon);
  }
}

RunningServer::~RunningServer() {
  admin_.reset();
  if (running_) {
    control_.run(stop());
    control_.stop();
  }
  if (threads_) threads_->stop();
  shards_.reset();
}

/// Others lead as soon as nothing is served here; connections may take their time to close.
Task<> RunningServer::stop() {
  Task<> resigning = shards_->resign();
  co_await resigning;
  Task<> member = membership_->stop();
  co_await member;
  if (watch_) {
    Task<> watch = watch_->stop();
    co_await watch;
  }
  Task<> shards = shards_->stop();
  co_await shards;
  Task<> rest = coordination_->stop();
  co_await rest;
}

namespace {

/// What `ask` yields on the loop; nothing if that does not answer in time.
template <class Ask>
auto on_loop(Loop& loop, Ask ask) -> std::optional<decltype(ask())> {
  const auto promise = std::make_shared<std::promise<decltype(ask())>>();
  auto answer = promise->get_future();
  const Result<> posted = loop.inbox().post([promise, ask] { promise->set_value(ask()); });
  if (!posted || answer.wait_for(kStatusPatience) != std::future_status::ready) return std::nullopt;
  return answer.get();
}

}  // namespace

Outcome<std::vector<ShardStatus>> RunningServer::status() {
  const auto shards = on_loop(control_.loop(), [this] { return shards_->shards(); });
  if (!shards) return complain("the server's loop does not answer");
  std::vector<ShardStatus> all;
  for (const LedShard* const shard : *shards) {
    auto status = on_loop(shard->service_loop(), [shard] { return shard->service().status(); });
    if (!status) return complain("the loop of shard {} does not answer", shard->shard().value);
    all.push_back(std::move(*status));
  }
  return all;
}

}  // namespace membrain
