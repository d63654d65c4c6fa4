#include "tools/etcd_options.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "server/cluster/etcd/etcd.h"
#include "tools/program.h"

namespace membrain {

namespace {

constexpr std::chrono::milliseconds kShortestLease(2000);

Outcome<std::string> text_of(const std::string& path) {
  if (path.empty()) return std::string();
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), {});
  if (!file.is_open() || text.empty()) {
    return complain("{}: cannot be read: {}", path,
                    file.is_open() ? "it is empty" : std::strerror(errno));
  }
  return text;
}

}  // namespace

void EtcdOptions::bind_client(Command& command) {
  command.list("etcd", endpoints, "URL", "Members of etcd, by which the servers of a cluster agree")
      .standard("none: a server is alone")
      .text("cluster", cluster, "NAME", "Which of the clusters that use this etcd")
      .text("etcd-ca", ca_file, "FILE", "Who signs the certificates of https:// endpoints")
      .standard("the system's")
      .text("etcd-cert", cert_file, "FILE", "Our certificate for etcd")
      .text("etcd-key", key_file, "FILE", "The key of --etcd-cert");
}

void EtcdOptions::bind(Command& command) {
  bind_client(command);
  command.text("name", name, "NAME", "Of this server in its cluster")
      .standard("its address")
      .text("advertise", advertise, "HOST:PORT", "Where others reach this server")
      .standard("--listen")
      .duration("lease", lease, "How long a silent server counts as alive, at least 2s");
}

Outcome<std::unique_ptr<Coordination>> connect_etcd(const EtcdOptions& options, Loop& loop) {
  if (options.lease < kShortestLease) {
    return complain("--lease: etcd grants none below {} s", kShortestLease.count() / 1000);
  }
  if (options.cluster.empty() || options.cluster.find('/') != std::string::npos) {
    return complain("--cluster: \"{}\" is no name: it must not be empty or have a slash in it",
                    options.cluster);
  }
  EtcdConfig config;
  config.endpoints = options.endpoints;
  for (const auto& [path, into] :
       {std::pair{&options.ca_file, &config.ca}, std::pair{&options.cert_file, &config.cert},
        std::pair{&options.key_file, &config.key}}) {
    Outcome<std::string> text = text_of(*path);
    if (!text) return tl::unexpected(text.error());
    *into = std::move(*text);
  }
  Result<std::unique_ptr<Coordination>> made = make_etcd_coordination(loop, std::move(config));
  if (!made) return complain("--etcd: {}", in_words(made.error()));
  return std::move(*made);
}

Outcome<> same_cluster(const std::string& directory, const std::string& id) {
  const std::filesystem::path path = std::filesystem::path(directory) / "cluster";
  std::string known;
  if (std::ifstream file(path); file >> known) {
    if (known == id) return {};
    return complain(
        "this server belongs to cluster {} and etcd holds cluster {}: is it the right etcd, or was "
        "it wiped? To join the new one, stop all nodes and remove {}",
        known, id, path.string());
  }
  std::error_code failed;
  std::filesystem::create_directories(directory, failed);
  std::ofstream file(path);
  file << id << "\n";
  file.flush();
  if (!file) return complain("{}: cannot be written: {}", path.string(), std::strerror(errno));
  return {};
}

}  // namespace membrain
