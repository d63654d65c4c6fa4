#include "bench/peer_cluster.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>

#include "base/check.h"
#include "tools/signals.h"

namespace membrain {
namespace {

constexpr std::size_t kStoredAtOnce = std::size_t{32} << 20;  // bytes
constexpr std::size_t kItemsAtOnce = 4096;

constexpr std::uint64_t word_of(std::uint64_t number, std::size_t index) noexcept {
  return number * 0x9e3779b97f4a7c15ull + index * 0xbf58476d1ce4e5b9ull;
}

/// In the build tree beside ours, or where `cmake --install` puts it; empty if it is nowhere.
std::string membrain_binary() {
  std::error_code failed;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", failed);
  for (const char* near : {"../tools/membrain", "../../bin/membrain"}) {
    const std::filesystem::path path = (self.parent_path() / near).lexically_normal();
    if (std::filesystem::exists(path, failed)) return path.string();
  }
  return {};
}

}  // namespace

void fill_value(std::uint64_t number, std::span<std::byte> into) noexcept {
  for (std::size_t at = 0; at < into.size(); at += sizeof(std::uint64_t)) {
    const std::uint64_t word = word_of(number, at);
    std::memcpy(into.data() + at, &word, std::min(sizeof word, into.size() - at));
  }
}

bool is_value(std::uint64_t number, std::span<const std::byte> bytes) noexcept {
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint64_t)) {
    const std::uint64_t word = word_of(number, at);
    if (std::memcmp(bytes.data() + at, &word, std::min(sizeof word, bytes.size() - at)) != 0) {
      return false;
    }
  }
  return true;
}

BlockHash hash_of_value(std::uint64_t number) noexcept {
  const std::uint64_t words[] = {number, ~number * 0x94d049bb133111ebull};
  return BlockHash::from(std::as_bytes(std::span(words))).value();
}

Outcome<std::unique_ptr<PeerCluster>> PeerCluster::start(std::uint64_t capacity_bytes) {
  ClusterConfig config;
  config.capacity_bytes = capacity_bytes;
  config.log_level = "error";
  config.program = membrain_binary();
  if (config.program.empty()) {
    return complain(
        "the membrain binary was not found in ../tools or ../../bin beside this one: "
        "build the target \"membrain\" too");
  }
  if (const Outcome<> enough = check_memory_for(capacity_bytes); !enough) {
    return tl::unexpected(enough.error());
  }
  auto cluster = std::make_unique<PeerCluster>();
  {
    Signals signals;
    Outcome<std::unique_ptr<LocalCluster>> started = LocalCluster::start(config, signals);
    if (!started) return tl::unexpected(started.error());
    cluster->processes_ = std::move(*started);
  }
  // From here on Ctrl-C ends this process as usual, and the others with it: their input ends.
  sigset_t stops;
  sigemptyset(&stops);
  sigaddset(&stops, SIGINT);
  sigaddset(&stops, SIGTERM);
  pthread_sigmask(SIG_UNBLOCK, &stops, nullptr);
  return cluster;
}

std::unique_ptr<Client> caller_driven_client(const std::string& server, const std::string& secret,
                                             Path path) {
  ClientConfig config;
  config.server = server;
  config.secret = secret;
  config.label = "peer_bench";
  config.threads = ClientConfig::Threads::caller;
  config.mapped = path == Path::mapped;
  Result<std::unique_ptr<Client>> client = Client::open(std::move(config));
  check(client.has_value(), "the benchmark's cluster does not answer");
  return std::move(*client);
}

OpenedNamespace PeerCluster::space_of(Client& client) const {
  Namespace space;
  space.model = "bench";
  return client.open_namespace(space).value();
}

bool PeerCluster::store(Client& client, std::uint64_t first, std::size_t count,
                        std::size_t bytes) const {
  const OpenedNamespace space = space_of(client);
  const std::size_t each = std::clamp<std::size_t>(kStoredAtOnce / bytes, 1, kItemsAtOnce);
  PageMemory memory(each * bytes);
  for (std::size_t done = 0; done < count; done += each) {
    std::vector<StoreItem> items(std::min(each, count - done));
    for (std::size_t i = 0; i < items.size(); ++i) {
      const std::span<std::byte> value(memory.data() + i * bytes, bytes);
      fill_value(first + done + i, value);
      items[i].hash = hash_of_value(first + done + i);
      items[i].from = {{value.data(), value.size()}};
    }
    const Result<TransferReport> report = client.store(space, items);
    if (!report || report->ok_count() != items.size()) return false;
  }
  return true;
}

}  // namespace membrain
