#include "tools/cluster.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <sstream>

#include "base/mac.h"
#include "cache/node/size_classes.h"
#include "tools/output.h"
#include "tools/units.h"

namespace membrain {
namespace {

constexpr std::uint64_t kSpareBytes = std::uint64_t{64} << 20;

TimePoint in(std::chrono::seconds time) {
  return SteadyClock().now() + time;
}

/// The fourth word of "membrain server ready ADDRESS ...".
Outcome<std::string> address_in(const std::string& ready_line) {
  std::istringstream words(ready_line);
  std::string word;
  for (int index = 0; index < 4; ++index) words >> word;
  if (!words || !ready_line.starts_with("membrain ")) {
    return complain("this is no ready line: \"{}\"", ready_line);
  }
  return word;
}

}  // namespace

std::string random_secret() {
  std::array<std::byte, 16> bytes{};
  random_bytes(bytes);
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<int>(byte));
  return text;
}

std::uint64_t capacity_for(std::uint64_t blocks, std::uint64_t block_bytes) {
  const auto size_class = size_class_of(static_cast<std::uint32_t>(block_bytes));
  const std::uint64_t slot_bytes = size_class ? size_classes()[*size_class] : block_bytes;
  return blocks * slot_bytes / 4 * 5 + kSpareBytes;
}

Outcome<> check_memory_for(std::uint64_t capacity_bytes) {
  struct statvfs shared {};
  if (::statvfs("/dev/shm", &shared) != 0) return {};  // the node says what is wrong with it
  const std::uint64_t available = std::uint64_t{shared.f_bavail} * shared.f_frsize;
  const std::uint64_t needed = capacity_bytes + capacity_bytes / 32;  // and its seals
  if (needed <= available) return {};
  return complain(
      "{} of shared memory are needed, /dev/shm has {}: take a smaller --capacity (blocks are "
      "evicted then), --block-bytes or --requests",
      format_size(needed), format_size(available));
}

LocalCluster::LocalCluster() : secret_(random_secret()) {}
LocalCluster::~LocalCluster() {
  for (const auto& process : processes_) process->ask_to_end();
  for (std::size_t index = 0; index < processes_.size(); ++index) {
    Child& process = *processes_[index];
    process.stop(std::chrono::seconds(20));
    const std::string how = process.ended().value_or("still running");
    const bool known = index >= reported_.size() || reported_[index];
    if (!known && how != "exit status 0") {
      complain_aloud("", fmt::format("{} ended badly ({})", process.name(), how));
    }
  }
}

Outcome<std::unique_ptr<LocalCluster>> LocalCluster::start(const ClusterConfig& config,
                                                           Signals& signals) {
  std::unique_ptr<LocalCluster> cluster(new LocalCluster);
  if (const Outcome<> server = cluster->start_server(config, signals); !server) {
    return tl::unexpected(server.error());
  }
  if (const Outcome<> nodes = cluster->start_nodes(config, signals); !nodes) {
    return tl::unexpected(nodes.error());
  }
  cluster->reported_.assign(cluster->processes_.size(), false);
  return cluster;
}

Outcome<> LocalCluster::start_server(const ClusterConfig& config, Signals& signals) {
  ChildConfig child;
  child.name = "the server";
  child.program = config.program;
  child.secret = secret_;
  child.words = {"server",
                 "--listen",
                 "127.0.0.1:0",
                 "--no-admin",
                 "--temporary",
                 "--until-eof",
                 "--log-level",
                 config.log_level,
                 "--expected-blocks",
                 std::to_string(std::max<std::uint64_t>(1024, config.expected_blocks))};
  Outcome<std::unique_ptr<Child>> server = Child::start(child);
  if (!server) return tl::unexpected(server.error());
  processes_.push_back(std::move(*server));
  const Outcome<std::string> line =
      processes_.back()->await_line(in(std::chrono::seconds(30)), signals);
  if (!line) return tl::unexpected(line.error());
  Outcome<std::string> address = address_in(*line);
  if (!address) return tl::unexpected(address.error());
  server_ = std::move(*address);
  return {};
}

Outcome<> LocalCluster::start_nodes(const ClusterConfig& config, Signals& signals) {
  const std::size_t first = processes_.size();
  const std::uint64_t each = config.capacity_bytes / std::max(1U, config.nodes);
  for (std::uint32_t index = 0; index < config.nodes; ++index) {
    ChildConfig child;
    child.name = config.nodes == 1 ? "the node" : fmt::format("node {}", index);
    child.program = config.program;
    child.secret = secret_;
    child.words = {"node",
                   "--server",
                   server_,
                   "--capacity",
                   std::to_string(each),
                   "--name",
                   fmt::format("local-{}", index),
                   "--temporary",
                   "--until-eof",
                   "--listen",
                   "127.0.0.1:0",
                   "--log-level",
                   config.log_level};
    Outcome<std::unique_ptr<Child>> node = Child::start(child);
    if (!node) return tl::unexpected(node.error());
    processes_.push_back(std::move(*node));
  }
  // Reserving memory takes seconds per GiB where it is busy.
  const std::chrono::seconds patience(30 + 10 * (config.capacity_bytes >> 30));
  for (std::size_t index = first; index < processes_.size(); ++index) {
    const Outcome<std::string> line = processes_[index]->await_line(in(patience), signals);
    if (!line) return tl::unexpected(line.error());
  }
  return {};
}

std::vector<std::string> LocalCluster::deaths() {
  std::vector<std::string> deaths;
  for (std::size_t index = 0; index < processes_.size(); ++index) {
    if (reported_[index]) continue;
    if (const auto how = processes_[index]->ended()) {
      reported_[index] = true;
      deaths.push_back(fmt::format("{} ended unexpectedly ({})", processes_[index]->name(), *how));
    }
  }
  return deaths;
}

}  // namespace membrain
