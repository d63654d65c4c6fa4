// `membrain ctl`: where a cluster's shards are led, and wishes of where they should be.

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/cluster/steering.h"
#include "tools/ctl_view.h"
#include "tools/etcd_options.h"
#include "tools/loop_thread.h"
#include "tools/output.h"
#include "tools/program.h"
#include "tools/units.h"

namespace membrain {
namespace {

constexpr std::chrono::milliseconds kLook(50);

struct CtlOptions {
  EtcdOptions etcd;
  std::vector<std::string> words;
  std::chrono::milliseconds timeout{15000};
  bool json = false;
};

enum class Deed : std::uint8_t { show, drain, join, rebalance, move, split };

/// What is to be done.
struct Asked {
  Deed deed = Deed::show;
  ShardId shard;
  std::string server;
};

struct Form {
  Deed deed;
  std::string_view word;
  bool shard;   ///< a shard's number follows
  bool server;  ///< a server's name follows
  std::string_view all;
};
constexpr Form kForms[] = {{Deed::drain, "drain", false, true, "drain NAME"},
                           {Deed::join, "join", false, true, "join NAME"},
                           {Deed::rebalance, "rebalance", false, false, "rebalance"},
                           {Deed::move, "move", true, true, "move SHARD NAME"},
                           {Deed::split, "split", true, false, "split SHARD"}};
constexpr const char* kWordsHelp =
    "drain NAME       have other servers lead what this one leads\n"
    "join NAME        wait until this server is a member, then rebalance\n"
    "rebalance        have every living server lead as many shards\n"
    "move SHARD NAME  have this server lead this shard\n"
    "split SHARD      give the upper half of its keys to a new shard\n"
    "nothing          show who leads what, and how etcd's members are";

/// What is wished, and how one sees how much of it has come true.
struct Wish {
  CoordinationChange change;
  std::size_t parts = 0;
  std::function<std::size_t(const SteeredCluster&)> fulfilled;
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

Wish led_by(const ClusterNames& names, std::map<ShardId, std::string> by_shard) {
  return {wishing(names, by_shard), by_shard.size(), [by_shard](const SteeredCluster& cluster) {
            return static_cast<std::size_t>(std::ranges::count_if(by_shard, [&](const auto& one) {
              const SteeredShard* const shard = cluster.find(one.first);
              return shard != nullptr && shard->leader == one.second;
            }));
          }};
}

Outcome<Wish> move_wish(const Asked& asked, const SteeredCluster& cluster,
                        const ClusterNames& names) {
  if (cluster.find(asked.shard) == nullptr) {
    return complain("move: there is no shard {}", asked.shard.value);
  }
  if (!cluster.servers.contains(asked.server)) {
    return complain("move: no living server is named \"{}\"; those are: {}", asked.server,
                    known_servers(cluster));
  }
  return led_by(names, {{asked.shard, asked.server}});
}

Outcome<Wish> split_wish(const Asked& asked, const SteeredCluster& cluster,
                         const ClusterNames& names) {
  const ShardId shard = asked.shard;
  Result<WishedSplit> wish = wishing_split(cluster, names, shard);
  if (!wish) return complain("split {}: {}", shard.value, in_words(wish.error()));
  const auto done = [shard, fresh = wish->fresh](const SteeredCluster& now) {
    const SteeredShard* const lower = now.find(shard);
    const SteeredShard* const upper = now.find(fresh);
    const bool both = lower != nullptr && lower->epoch && upper != nullptr && upper->epoch;
    return std::size_t{both ? 1U : 0U};
  };
  return Wish{std::move(wish->change), 1, done};
}

/// Nodes are not in etcd: whoever is no server may be one.
Outcome<Wish> drain_wish(const Asked& asked, const SteeredCluster& cluster,
                         const ClusterNames& names) {
  if (!cluster.servers.contains(asked.server)) {
    return complain(
        "drain: no living server is named \"{}\"; those are: {}. If it is a node: that is told "
        "itself, because it knows what it has alone, whoever leads: run it with --drain 10m and "
        "send it SIGTERM (systemctl stop membrain-node); it has its blocks copied, then goes",
        asked.server, known_servers(cluster));
  }
  const Result<std::map<ShardId, std::string>> to = spread(cluster, asked.server);
  if (!to) {
    return complain(
        "drain: nobody is left to lead: {}; start another server first, or stop this one as it is: "
        "its blocks are found again when it is back",
        in_words(to.error()));
  }
  return led_by(names, *to);
}

Outcome<Wish> spread_wish(const Asked& asked, const SteeredCluster& cluster,
                          const ClusterNames& names) {
  const Result<std::map<ShardId, std::string>> to = spread(cluster, "");
  if (!to) return complain("nobody is there to lead: {}", in_words(to.error()));
  const auto led =
      std::ranges::count(*to, asked.server, [](const auto& one) { return one.second; });
  if (asked.deed == Deed::join && led == 0) {
    complain_aloud("ctl", fmt::format("{} is a member and leads nothing, as there are fewer shards "
                                      "than servers: it takes over when another dies",
                                      asked.server));
  }
  return led_by(names, *to);
}

Outcome<Wish> wish_of(const Asked& asked, const SteeredCluster& cluster,
                      const ClusterNames& names) {
  switch (asked.deed) {
    case Deed::move:
      return move_wish(asked, cluster, names);
    case Deed::split:
      return split_wish(asked, cluster, names);
    case Deed::drain:
      return drain_wish(asked, cluster, names);
    case Deed::join:
    case Deed::rebalance:
      return spread_wish(asked, cluster, names);
    case Deed::show:
      break;
  }
  return Wish{{}, 0, [](const SteeredCluster&) { return std::size_t{0}; }};
}

std::string all_forms() {
  std::string all;
  for (const Form& form : kForms) all += (all.empty() ? "" : ", ") + std::string(form.all);
  return all;
}

/// Shards are numbered with 32 bits: a larger number must not become another shard's.
Outcome<ShardId> shard_of(const Form& form, const std::string& word) {
  const Outcome<std::uint64_t> number = parse_whole(word);
  if (!number) return complain("{}: {}; shards have numbers", form.word, number.error().text);
  if (*number > UINT32_MAX) return complain("{}: there is no shard {}", form.word, *number);
  return ShardId{static_cast<std::uint32_t>(*number)};
}

Outcome<Asked> asked_by(const std::vector<std::string>& words) {
  if (words.empty()) return Asked{};
  const auto* const form = std::ranges::find(kForms, words[0], &Form::word);
  if (form == std::end(kForms)) {
    return complain("there is no \"ctl {}\"; there is: {}", words[0], all_forms());
  }
  const std::size_t wanted = 1U + (form->shard ? 1U : 0U) + (form->server ? 1U : 0U);
  if (words.size() != wanted) return complain("it is: membrain ctl {}", form->all);
  Asked asked{form->deed, {}, form->server ? words.back() : ""};
  if (!form->shard) return asked;
  const Outcome<ShardId> shard = shard_of(*form, words[1]);
  if (!shard) return tl::unexpected(shard.error());
  asked.shard = *shard;
  return asked;
}

Outcome<> check_options(const CtlOptions& options) {
  if (options.etcd.alone()) {
    return complain("--etcd is missing: a server without etcd leads all of its shards itself");
  }
  return options.etcd.check();
}

/// One look after another, told of on stderr when it says something new.
class Waiting {
 public:
  Waiting(Etcd& etcd, const CtlOptions& options, Signals& signals)
      : etcd_(etcd),
        options_(options),
        signals_(signals),
        deadline_(SteadyClock().now() + options.timeout) {}

  [[nodiscard]] TimePoint deadline() const noexcept { return deadline_; }

  /// Until the server is a member.
  Outcome<SteeredCluster> join(const std::string& server, SteeredCluster seen) {
    while (!seen.servers.contains(server)) {
      if (signals_.stop_asked()) return complain("interrupted: nothing was asked for yet");
      if (over()) {
        return complain(
            "join: no server named \"{}\" has become a member within {}; those are: {}; start it "
            "with --name {} and the same --etcd and --cluster. A node need not join: engines use "
            "it as soon as it is ready",
            server, patience(), known_servers(seen), server);
      }
      say_once(fmt::format("waiting for {} to become a member", server));
      pause();
      if (Result<SteeredCluster> now = etcd_.look(deadline_)) seen = std::move(*now);
    }
    return seen;
  }

  /// Until all of the wish has come true.
  Outcome<SteeredCluster> fulfil(const Wish& wish) {
    while (true) {
      Result<SteeredCluster> cluster = etcd_.look(deadline_);
      const std::size_t done = cluster ? wish.fulfilled(*cluster) : 0;
      if (cluster && done == wish.parts) return std::move(*cluster);
      if (signals_.stop_asked()) {
        return complain(
            "interrupted: it was asked for, and may yet happen (membrain ctl shows who leads)");
      }
      if (over()) {
        return complain(
            "it was asked for, and has not happened within {}; a server that is slow or cut off "
            "may yet do it (membrain ctl shows who leads)",
            patience());
      }
      if (cluster) say_once(fmt::format("{} of {} shards are as they are to be", done, wish.parts));
      pause();
    }
  }

 private:
  [[nodiscard]] bool over() const { return SteadyClock().now() >= deadline_; }
  [[nodiscard]] std::string patience() const {
    return fmt::format("{} s", std::chrono::duration<double>(options_.timeout).count());
  }
  void say_once(std::string text) {
    if (text == said_) return;
    complain_aloud("ctl", text);
    said_ = std::move(text);
  }
  void pause() {
    pollfd stop{signals_.fd(), POLLIN, 0};
    ::poll(&stop, 1, static_cast<int>(kLook.count()));
  }

  Etcd& etcd_;
  const CtlOptions& options_;
  Signals& signals_;
  const TimePoint deadline_;
  std::string said_;
};

/// Does it, and waits until it has happened.
Outcome<SteeredCluster> done(Etcd& etcd, const Asked& asked, SteeredCluster cluster,
                             const CtlOptions& options, Signals& signals) {
  Waiting waiting(etcd, options, signals);
  if (asked.deed == Deed::join) {
    Outcome<SteeredCluster> joined = waiting.join(asked.server, std::move(cluster));
    if (!joined) return joined;
    cluster = std::move(*joined);
  }
  const Outcome<Wish> wish = wish_of(asked, cluster, etcd.names());
  if (!wish) return tl::unexpected(wish.error());
  if (const Result<> told = etcd.wish(wish->change, waiting.deadline()); !told) {
    return complain("it could not be asked for: {}", in_words(told.error()));
  }
  return waiting.fulfil(*wish);
}

Exit run_ctl(Program& program, const CtlOptions& options) {
  const Outcome<Asked> asked = asked_by(options.words);
  const Outcome<> sane = asked ? check_options(options) : tl::unexpected(asked.error());
  if (!sane) {
    complain_aloud("ctl", sane.error().text);
    return Exit::usage;
  }
  const Outcome<std::unique_ptr<Etcd>> etcd = Etcd::connect(options);
  if (!etcd) return failed("ctl", etcd.error().text);
  Result<SteeredCluster> cluster = (*etcd)->look(SteadyClock().now() + options.timeout);
  if (!cluster) {
    const std::vector<CoordinationMember> members =
        (*etcd)->members(SteadyClock().now() + options.timeout);
    return failed(
        "ctl", fmt::format("the cluster \"{}\" cannot be seen: {}; is --etcd right, and "
                           "has one of its servers ever run?{}",
                           options.etcd.cluster, in_words(cluster.error()), etcd_lines(members)));
  }
  if (asked->deed != Deed::show) {
    Outcome<SteeredCluster> now =
        done(**etcd, *asked, std::move(*cluster), options, program.signals);
    if (!now) return failed("ctl", now.error().text);
    cluster = std::move(*now);
  }
  const std::vector<CoordinationMember> members =
      (*etcd)->members(SteadyClock().now() + options.timeout);
  say(options.json ? cluster_json(*cluster, members) : cluster_table(*cluster, members));
  return Exit::ok;
}

}  // namespace

Command ctl_command(Program& program) {
  const auto options = std::make_shared<CtlOptions>();
  Command command("ctl", "Shows who leads a cluster's shards; drains, joins, spreads, splits",
                  [&program, options] { return run_ctl(program, *options); });
  command.words("WHAT", options->words, kWordsHelp);
  options->etcd.bind_client(command);
  command.duration("timeout", options->timeout, "How long to wait until it has happened")
      .toggle("json", options->json, "Print one JSON object");
  return command;
}

}  // namespace membrain
