#include "tools/running_server.h"

#include <algorithm>
#include <chrono>
#include <future>
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
    return complain("the state directory {} cannot be used: {}; is another server running on it?",
                    options.state_dir, in_words(file.error()));
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
  for (std::unique_ptr<Fabric>* fabric : {&server->fabric_, &server->watch_fabric_}) {
    if (fabric == &server->watch_fabric_ && alone) continue;
    Result<std::unique_ptr<Fabric>> made =
        make_ucx_fabric(context, loop, {options.secret, "server"});
    if (!made) return complain("UCX cannot be used: {}", in_words(made.error()));
    *fabric = std::move(*made);
  }
  if (Outcome<> joined = server->join(options); !joined) return tl::unexpected(joined.error());
  if (options.no_admin) return server;
  Outcome<std::unique_ptr<AdminHttp>> admin =
      AdminHttp::start(options.admin, [raw = server.get()]() -> Outcome<std::string> {
        const Outcome<ShardStatus> status = raw->status();
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
  ShardConfig config;
  config.secret = options.secret;
  config.expected_blocks = options.expected_blocks;
  shard_ = std::make_unique<LedShard>(*fabric_, watch_fabric_.get(), *membership_, config);
  if (const Result<> listens = shard_->listen(options.listen); !listens) {
    return complain("cannot listen on {}: {}; stop who has that port, or take another --listen",
                    options.listen, in_words(listens.error()));
  }
  control_.start();
  running_ = true;
  const TimePoint deadline = SteadyClock().now() + kCoordinationPatience;
  Result<std::string> id = std::string();
  control_.run(find_id(control_.loop(), *coordination_, member.cluster, deadline, id));
  if (!id) return complain("the cluster cannot be joined: {}", in_words(id.error()));
  if (!options.etcd.alone() && !options.temporary) {
    if (Outcome<> same = same_cluster(options.state_dir, *id); !same) return same;
  }
  control_.run(enter(deadline));
  return {};
}

/// Until it is known who leads.
Task<> RunningServer::enter(TimePoint deadline) {
  membership_->start(address());
  shard_->start();
  while (!shard_->settled() && control_.loop().now() < deadline) {
    const TimePoint soon = control_.loop().now() + std::chrono::milliseconds(1);
    co_await control_.loop().sleep_until(soon);
  }
}

RunningServer::~RunningServer() {
  admin_.reset();
  if (!running_) return;
  control_.run(stop());
  control_.stop();
}

Task<> RunningServer::stop() {
  Task<> shard = shard_->stop();
  co_await shard;
  Task<> member = membership_->stop();
  co_await member;
  Task<> rest = coordination_->stop();
  co_await rest;
}

Outcome<ShardStatus> RunningServer::status() {
  const auto promise = std::make_shared<std::promise<ShardStatus>>();
  std::future<ShardStatus> status = promise->get_future();
  const Result<> posted = control_.loop().inbox().post(
      [shard = shard_.get(), promise] { promise->set_value(shard->service().status()); });
  if (!posted || status.wait_for(kStatusPatience) != std::future_status::ready) {
    return complain("the server's loop does not answer");
  }
  return status.get();
}

}  // namespace membrain
