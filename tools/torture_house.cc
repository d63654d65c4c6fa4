#include "tools/torture_house.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "tools/cluster.h"
#include "tools/free_port.h"
#include "tools/http_get.h"
#include "tools/units.h"

namespace membrain {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kStatusPatience(400);
constexpr const char* kSharedMemory = "/dev/shm";
/// Runs a program that ends when we do, however we end.
constexpr const char* kTied = "/usr/bin/setpriv";

std::string in_path(const std::string& name) {
  const char* const path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (::access((folder + "/" + name).c_str(), X_OK) == 0) return folder + "/" + name;
  }
  return {};
}

Outcome<std::string> make_folder(const std::string& where) {
  std::string path = where + "/membrain-torture-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) {
    return complain("no folder can be made in {}: {}", where, std::strerror(errno));
  }
  return path;
}

std::string own_address() {
  return fmt::format("127.0.0.1:{}", free_port());
}

using ByShard = std::map<std::uint64_t, LeaderStatus>;

/// What a server answers to GET /status of the shards that it leads.
ByShard shards_of(const std::string& admin) {
  const std::optional<std::string> answer = http_get(admin, "/status", kStatusPatience);
  return answer ? led_shards(*answer) : ByShard{};
}

/// Blocks and pins are in one shard each; every node and session is in all of them.
void add(LeaderStatus& sum, const LeaderStatus& shard) {
  static const std::set<std::string_view> kInEach{"sessions", "sessions_expired", "nodes_lost"};
  sum.grace = sum.grace || shard.grace;
  if (shard.epoch > sum.epoch) sum.epoch = shard.epoch, sum.server = shard.server;
  for (const auto& [name, value] : shard.counters) {
    std::uint64_t& counter = sum.counters[name];
    if (name == "nodes") {
      counter = std::min(counter, value);
    } else if (kInEach.contains(name)) {
      counter = std::max(counter, value);
    } else {
      counter += value;
    }
  }
}

}  // namespace

TortureHouse::TortureHouse(const TortureHouseConfig& config)
    : config_(config), secret_(random_secret()) {}

TortureHouse::~TortureHouse() {
  // Nodes say goodbye to a server that is there, and servers give leases back.
  for (auto* group : {&nodes_, &servers_, &members_}) {
    for (const auto& one : *group) one->ask_to_end();
    for (const auto& one : *group) group == &members_ ? one->kill() : one->finish();
  }
  std::error_code ignored;
  if (!arenas_.empty()) fs::remove_all(arenas_, ignored);
  if (!folder_.empty() && !keep_) fs::remove_all(folder_, ignored);
}

Outcome<std::unique_ptr<TortureHouse>> TortureHouse::start(const TortureHouseConfig& config) {
  std::unique_ptr<TortureHouse> house(new TortureHouse(config));
  if (const Outcome<> made = house->make_folders(); !made) return tl::unexpected(made.error());
  if (const Outcome<> added = house->add_members(); !added) return tl::unexpected(added.error());
  house->add_servers();
  house->add_nodes();
  for (auto* group : {&house->members_, &house->servers_, &house->nodes_}) {
    for (const auto& one : *group) {
      if (const Outcome<> started = one->start(); !started) return tl::unexpected(started.error());
    }
  }
  return house;
}

Outcome<> TortureHouse::make_folders() {
  std::error_code ignored;
  const fs::path temporary = fs::temp_directory_path(ignored);
  Outcome<std::string> folder = make_folder(temporary.empty() ? "/tmp" : temporary.string());
  if (!folder) return tl::unexpected(folder.error());
  folder_ = std::move(*folder);
  Outcome<std::string> arenas = make_folder(kSharedMemory);
  if (!arenas) return tl::unexpected(arenas.error());
  arenas_ = std::move(*arenas);
  return check_memory_for(config_.nodes * config_.arena_bytes);
}

std::string TortureHouse::log_of(const std::string& name) const {
  return fmt::format("{}/{}.log", folder_, name);
}

ChildConfig TortureHouse::child(const std::string& name) const {
  ChildConfig config;
  config.name = name;
  config.secret = secret_;
  config.errors_file = log_of(name);
  return config;
}

Outcome<> TortureHouse::add_members() {
  if (config_.members == 0) return {};
  const std::string etcd = in_path("etcd");
  if (etcd.empty() || ::access(kTied, X_OK) != 0) {
    return complain(
        "there is no {}: install it (Debian: apt install {}), or run with --no-etcd, which has one "
        "server",
        etcd.empty() ? "etcd" : "setpriv", etcd.empty() ? "etcd-server" : "util-linux");
  }
  std::vector<std::string> clients;
  std::vector<std::string> peers;
  std::string cluster;
  for (std::uint64_t i = 0; i < config_.members; ++i) {
    clients.push_back("http://" + own_address());
    peers.push_back("http://" + own_address());
    cluster += fmt::format("{}m{}={}", i == 0 ? "" : ",", i, peers.back());
    etcd_urls_ += (i == 0 ? "" : ",") + clients.back();
  }
  for (std::uint64_t i = 0; i < config_.members; ++i) {
    ChildConfig member = child(fmt::format("etcd-{}", i));
    member.program = kTied;
    member.secret.clear();
    const std::string data = fmt::format("{}/etcd-{}", folder_, i);
    member.words = {"--pdeathsig", "KILL", etcd, "--name", fmt::format("m{}", i)};
    for (const auto& [option, value] : std::initializer_list<std::pair<const char*, std::string>>{
             {"--data-dir", data},
             {"--listen-client-urls", clients[i]},
             {"--advertise-client-urls", clients[i]},
             {"--listen-peer-urls", peers[i]},
             {"--initial-advertise-peer-urls", peers[i]},
             {"--initial-cluster", cluster},
             {"--log-level", "warn"}}) {
      member.words.insert(member.words.end(), {option, value});
    }
    member.words.emplace_back("--unsafe-no-fsync");
    members_.push_back(std::make_unique<Resident>(std::move(member)));
  }
  return {};
}

void TortureHouse::add_servers() {
  for (std::uint64_t i = 0; i < config_.servers; ++i) {
    addresses_.push_back(own_address());
    admins_.push_back(own_address());
    ChildConfig server = child(fmt::format("server-{}", i));
    server.words = {"server",
                    "--listen",
                    addresses_.back(),
                    "--admin",
                    admins_.back(),
                    "--state-dir",
                    folder_ + "/" + server.name,
                    "--until-eof",
                    "--shards",
                    std::to_string(config_.shards),
                    "--replicas",
                    std::to_string(config_.replicas)};
    if (!etcd_urls_.empty()) server.words.insert(server.words.end(), {"--etcd", etcd_urls_});
    servers_.push_back(std::make_unique<Resident>(std::move(server)));
  }
}

void TortureHouse::add_nodes() {
  for (std::uint64_t i = 0; i < config_.nodes; ++i) {
    ChildConfig node = child(fmt::format("node-{}", i));
    node.words = {"node",
                  "--server",
                  servers_list(),
                  "--capacity",
                  std::to_string(config_.arena_bytes),
                  "--name",
                  node.name,
                  "--directory",
                  arenas_,
                  "--listen",
                  "127.0.0.1:0",
                  "--until-eof"};
    nodes_.push_back(std::make_unique<Resident>(std::move(node)));
  }
}

std::string TortureHouse::servers_list() const {
  std::string list;
  for (const std::string& address : addresses_) list += (list.empty() ? "" : ",") + address;
  return list;
}

std::optional<LeaderStatus> TortureHouse::leader() const {
  ByShard latest;
  for (std::size_t i = 0; i < servers_.size(); ++i) {
    if (!servers_[i]->running()) continue;
    for (auto& [shard, status] : shards_of(admins_[i])) {
      LeaderStatus& known = latest[shard];
      if (known.epoch > status.epoch) continue;
      known = std::move(status);
      known.server = i;
    }
  }
  if (latest.size() < config_.shards) return std::nullopt;
  LeaderStatus all = latest.begin()->second;
  for (auto one = std::next(latest.begin()); one != latest.end(); ++one) add(all, one->second);
  return all;
}

bool TortureHouse::well() {
  for (auto* group : {&servers_, &nodes_}) {
    for (const auto& one : *group) {
      if (!one->running() || !one->ready()) return false;
    }
  }
  const std::optional<LeaderStatus> status = leader();
  return status && status->counter("nodes") == nodes_.size();
}

std::vector<std::string> TortureHouse::deaths() {
  std::vector<std::string> deaths;
  for (auto* group : {&members_, &servers_, &nodes_}) {
    for (const auto& one : *group) {
      if (const auto how = one->died()) {
        deaths.push_back(fmt::format("{}: {}, see {}", one->name(), *how, log_of(one->name())));
      }
    }
  }
  return deaths;
}

Outcome<TortureArena> TortureHouse::arena(std::size_t node) const {
  return TortureArena::open(fmt::format("{}/membrain-{}", arenas_, nodes_[node]->name()));
}

std::vector<std::string> TortureHouse::shared_files() const {
  std::vector<std::string> files;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(arenas_, ignored)) {
    files.push_back(entry.path().filename().string());
  }
  return files;
}

}  // namespace membrain
