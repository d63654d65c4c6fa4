// `membrain ctl`: where a cluster's shards are led, and wishes of where they should be.

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/cluster/steering.h"
#include "tools/etcd_options.h"
#include "tools/loop_thread.h"
#include "tools/output.h"
#include "tools/program.h"
#include "tools/units.h"

namespace membrain {
namespace {

constexpr std::chrono::milliseconds kLook(50);

struct CtlOptions {
  static constexpr std::uint64_t kNone = UINT64_MAX;

  EtcdOptions etcd;
  std::uint64_t move = kNone;
  std::string to;
  std::uint64_t split = kNone;
  bool rebalance = false;
  std::string drain;
  std::chrono::milliseconds timeout{15000};
  bool json = false;
};

/// What is wished, and how one sees that it has come true.
struct Wish {
  CoordinationChange change;
  std::function<bool(const SteeredCluster&)> fulfilled;
};

/// One question to etcd, from a thread that may wait.
class Etcd {
 public:
  static Outcome<std::unique_ptr<Etcd>> connect(const CtlOptions& options) {
    std::unique_ptr<Etcd> etcd(new Etcd(options));
    Outcome<std::unique_ptr<Coordination>> made = connect_etcd(options.etcd, etcd->thread_.loop());
    if (!made) return tl::unexpected(made.error());
    etcd->coordination_ = std::move(*made);
    etcd->thread_.start();
    return etcd;
  }
  ~Etcd() {
    if (!coordination_) return;
    thread_.run(coordination_->stop());
    thread_.stop();
  }
  Etcd(const Etcd&) = delete;
  Etcd& operator=(const Etcd&) = delete;

  Result<SteeredCluster> look(TimePoint deadline) {
    Result<CoordinationView> view = fail(Errc::unavailable, "etcd was not asked");
    thread_.run(read(deadline, view));
    if (!view) return fail(view.error());
    return steered(*view, names_);
  }
  Result<> wish(CoordinationChange change, TimePoint deadline) {
    Result<Committed> committed = fail(Errc::unavailable, "etcd was not asked");
    thread_.run(commit(std::move(change), deadline, committed));
    if (!committed) return fail(committed.error());
    return {};
  }
  /// What each member says of itself.
  std::vector<CoordinationMember> members(TimePoint deadline) {
    std::vector<CoordinationMember> all;
    thread_.run(ask_members(deadline, all));
    return all;
  }
  [[nodiscard]] const ClusterNames& names() const noexcept { return names_; }

 private:
  explicit Etcd(const CtlOptions& options) : names_(options.etcd.cluster), thread_("ctl") {}
  Task<> read(TimePoint deadline, Result<CoordinationView>& view) {
    Task<Result<CoordinationView>> reading = coordination_->read(names_.root(), deadline);
    view = co_await reading;
  }
  Task<> ask_members(TimePoint deadline, std::vector<CoordinationMember>& all) {
    Task<std::vector<CoordinationMember>> asking = coordination_->members(deadline);
    all = co_await asking;
  }
  Task<> commit(CoordinationChange change, TimePoint deadline, Result<Committed>& committed) {
    Task<Result<Committed>> committing = coordination_->commit(std::move(change), deadline);
    committed = co_await committing;
  }

  const ClusterNames names_;
  LoopThread thread_;
  std::unique_ptr<Coordination> coordination_;
};

std::string known_servers(const SteeredCluster& cluster) {
  std::string names;
  for (const auto& [name, address] : cluster.servers) names += (names.empty() ? "" : ", ") + name;
  return names.empty() ? "none is alive" : names;
}

Wish led_by(const ClusterNames& names, std::map<ShardId, std::string> by_shard) {
  return {wishing(names, by_shard), [by_shard](const SteeredCluster& cluster) {
            return std::ranges::all_of(by_shard, [&](const auto& one) {
              const SteeredShard* const shard = cluster.find(one.first);
              return shard != nullptr && shard->leader == one.second;
            });
          }};
}

Outcome<Wish> move_wish(const CtlOptions& options, const SteeredCluster& cluster,
                        const ClusterNames& names) {
  const ShardId shard{static_cast<std::uint32_t>(options.move)};
  if (cluster.find(shard) == nullptr) return complain("--move: there is no shard {}", options.move);
  if (!cluster.servers.contains(options.to)) {
    return complain("--to: no living server is named \"{}\"; those are: {}", options.to,
                    known_servers(cluster));
  }
  return led_by(names, {{shard, options.to}});
}

Outcome<Wish> split_wish(const CtlOptions& options, const SteeredCluster& cluster,
                         const ClusterNames& names) {
  const ShardId shard{static_cast<std::uint32_t>(options.split)};
  Result<WishedSplit> wish = wishing_split(cluster, names, shard);
  if (!wish) return complain("--split {}: {}", options.split, in_words(wish.error()));
  const auto done = [shard, fresh = wish->fresh](const SteeredCluster& now) {
    const SteeredShard* const lower = now.find(shard);
    const SteeredShard* const upper = now.find(fresh);
    return lower != nullptr && lower->epoch && upper != nullptr && upper->epoch;
  };
  return Wish{std::move(wish->change), done};
}

Outcome<Wish> spread_wish(const CtlOptions& options, const SteeredCluster& cluster,
                          const ClusterNames& names) {
  if (!options.drain.empty() && !cluster.servers.contains(options.drain)) {
    return complain("--drain: no living server is named \"{}\"; those are: {}", options.drain,
                    known_servers(cluster));
  }
  const Result<std::map<ShardId, std::string>> to = spread(cluster, options.drain);
  if (!to) return complain("nobody is left to lead: {}", in_words(to.error()));
  return led_by(names, *to);
}

Outcome<std::optional<Wish>> wish_of(const CtlOptions& options, const SteeredCluster& cluster,
                                     const ClusterNames& names) {
  Outcome<Wish> wish = Wish{};
  if (options.move != CtlOptions::kNone) {
    wish = move_wish(options, cluster, names);
  } else if (options.split != CtlOptions::kNone) {
    wish = split_wish(options, cluster, names);
  } else if (options.rebalance || !options.drain.empty()) {
    wish = spread_wish(options, cluster, names);
  } else {
    return std::optional<Wish>();
  }
  if (!wish) return tl::unexpected(wish.error());
  return std::optional<Wish>(std::move(*wish));
}

using Members = std::vector<CoordinationMember>;

std::string words_of(const CoordinationMember& member) {
  if (member.version.empty()) return "does not answer";
  return fmt::format("version {}, {}{}", member.version, format_size(member.bytes),
                     member.has_leader ? "" : ", has no leader: too few others answer it");
}

/// Each begins a line.
std::string lines_of(const Members& members) {
  std::string text;
  for (const CoordinationMember& member : members) {
    text += fmt::format("\netcd {}: {}", member.address, words_of(member));
  }
  return text;
}

std::string as_json(const SteeredCluster& cluster, const Members& members) {
  using Json = nlohmann::ordered_json;
  Json etcd = Json::array();
  for (const CoordinationMember& member : members) {
    etcd.push_back(Json{{"address", member.address},
                        {"answers", !member.version.empty()},
                        {"version", member.version},
                        {"has_leader", member.has_leader},
                        {"bytes", member.bytes}});
  }
  Json servers = Json::array();
  for (const auto& [name, address] : cluster.servers) {
    servers.push_back(Json{{"name", name}, {"address", address}});
  }
  Json shards = Json::array();
  for (const SteeredShard& one : cluster.shards) {
    shards.push_back(Json{{"shard", one.shard.value},
                          {"first_key", fmt::format("{:016x}", one.range.first)},
                          {"last_key", fmt::format("{:016x}", one.range.last)},
                          {"leader", one.leader},
                          {"epoch", one.epoch.value},
                          {"wanted", one.wanted}});
  }
  const Json all{{"map_version", cluster.map.version()},
                 {"etcd", etcd},
                 {"servers", servers},
                 {"shards", shards}};
  return all.dump(2) + "\n";
}

std::string as_table(const SteeredCluster& cluster, const Members& members) {
  std::size_t width = 6;
  for (const auto& [name, address] : cluster.servers) width = std::max(width, name.size());
  std::string text = fmt::format("map of shards, version {}; servers alive: {}\n",
                                 cluster.map.version(), known_servers(cluster));
  text += fmt::format("  shard  share of keys  {:<{}}  {:>10}  wanted\n", "leader", width, "epoch");
  for (const SteeredShard& one : cluster.shards) {
    const double share =
        static_cast<double>(one.range.last - one.range.first) / static_cast<double>(UINT64_MAX);
    text += fmt::format("  {:>5}  {:>11.2f} %  {:<{}}  {:>10}  {}\n", one.shard.value, share * 100,
                        one.leader.empty() ? "-" : one.leader, width, one.epoch.value, one.wanted);
  }
  if (const std::string etcd = lines_of(members); !etcd.empty()) text += etcd.substr(1) + "\n";
  return text;
}

/// Shards are numbered with 32 bits: a larger number must not become another shard's.
Outcome<> check_shard(const char* option, std::uint64_t number) {
  if (number == CtlOptions::kNone || number <= UINT32_MAX) return {};
  return complain("{}: there is no shard {}", option, number);
}

/// Exactly one thing at a time; `--to` goes with `--move`.
Outcome<> check_options(const CtlOptions& options) {
  if (const Outcome<> fine = check_shard("--move", options.move); !fine) return fine;
  if (const Outcome<> fine = check_shard("--split", options.split); !fine) return fine;
  const int asked = (options.move != CtlOptions::kNone ? 1 : 0) +
                    (options.split != CtlOptions::kNone ? 1 : 0) + (options.rebalance ? 1 : 0) +
                    (options.drain.empty() ? 0 : 1);
  if (asked > 1) return complain("one of --move, --split, --rebalance and --drain at a time");
  if ((options.move != CtlOptions::kNone) == options.to.empty()) {
    return complain("--move and --to go together: which shard, and the server that is to lead it");
  }
  if (options.etcd.alone()) {
    return complain("--etcd is missing: a server without etcd leads all of its shards itself");
  }
  return options.etcd.check();
}

/// Looks until the wish has come true.
Outcome<SteeredCluster> wait_for(Etcd& etcd, const Wish& wish, const CtlOptions& options,
                                 TimePoint deadline, Signals& signals) {
  while (true) {
    Result<SteeredCluster> cluster = etcd.look(deadline);
    if (cluster && wish.fulfilled(*cluster)) return std::move(*cluster);
    if (signals.stop_asked()) {
      return complain(
          "interrupted: it was asked for, and may yet happen (membrain ctl shows who leads)");
    }
    if (SteadyClock().now() >= deadline) {
      return complain(
          "it was asked for, and has not happened within {} s; a server that is slow or cut off "
          "may yet do it (membrain ctl shows who leads)",
          std::chrono::duration<double>(options.timeout).count());
    }
    pollfd stop{signals.fd(), POLLIN, 0};
    ::poll(&stop, 1, static_cast<int>(kLook.count()));
  }
}

Exit run_ctl(Program& program, const CtlOptions& options) {
  if (const Outcome<> fine = check_options(options); !fine) {
    complain_aloud("ctl", fine.error().text);
    return Exit::usage;
  }
  const Outcome<std::unique_ptr<Etcd>> etcd = Etcd::connect(options);
  if (!etcd) return failed("ctl", etcd.error().text);
  const TimePoint deadline = SteadyClock().now() + options.timeout;
  Result<SteeredCluster> cluster = (*etcd)->look(deadline);
  if (!cluster) {
    const Members members = (*etcd)->members(SteadyClock().now() + options.timeout);
    return failed("ctl",
                  fmt::format("the cluster \"{}\" cannot be seen: {}; is --etcd right, and "
                              "has one of its servers ever run?{}",
                              options.etcd.cluster, in_words(cluster.error()), lines_of(members)));
  }
  const Outcome<std::optional<Wish>> wish = wish_of(options, *cluster, (*etcd)->names());
  if (!wish) return failed("ctl", wish.error().text);
  if (*wish) {
    if (const Result<> wished = (*etcd)->wish((*wish)->change, deadline); !wished) {
      return failed("ctl", "the wish was not taken: " + in_words(wished.error()));
    }
    Outcome<SteeredCluster> now = wait_for(**etcd, **wish, options, deadline, program.signals);
    if (!now) return failed("ctl", now.error().text);
    cluster = std::move(*now);
  }
  const Members members = (*etcd)->members(SteadyClock().now() + options.timeout);
  say(options.json ? as_json(*cluster, members) : as_table(*cluster, members));
  return Exit::ok;
}

}  // namespace

Command ctl_command(Program& program) {
  const auto options = std::make_shared<CtlOptions>();
  Command command("ctl", "Shows who leads a cluster's shards; moves and splits them",
                  [&program, options] { return run_ctl(program, *options); });
  options->etcd.bind_client(command);
  command.count("move", options->move, "Have this shard led by --to")
      .standard("none")
      .words_only()
      .text("to", options->to, "NAME", "The server that is to lead it")
      .words_only()
      .count("split", options->split, "Give the upper half of this shard's keys to a new shard")
      .standard("none")
      .words_only()
      .toggle("rebalance", options->rebalance, "Have every living server lead as many shards")
      .words_only()
      .text("drain", options->drain, "NAME", "Have other servers lead what this one leads")
      .standard("none")
      .words_only()
      .duration("timeout", options->timeout, "How long to wait until it has happened")
      .toggle("json", options->json, "Print one JSON object");
  return command;
}

}  // namespace membrain
