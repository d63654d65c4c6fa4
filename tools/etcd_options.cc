#include "tools/etcd_options.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <sstream>
#include <system_error>
#include <utility>

#include "server/cluster/etcd/etcd.h"
#include "server/cluster/replace_file.h"
#include "tools/program.h"
#include "transport/descriptor.h"
#include "transport/ucx/socket.h"

namespace membrain {

namespace {

constexpr std::chrono::milliseconds kShortestLease(2000);

Outcome<std::string> text_of(const std::string& path) {
  errno = 0;
  const std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();  // which does not throw, for a directory say
  if (text.view().empty()) {
    return complain("{}: cannot be read: {}", path,
                    errno == 0 ? "it is empty" : std::strerror(errno));
  }
  return std::move(text).str();
}

/// Nothing if there is no such file.
Outcome<std::optional<std::string>> known_cluster(const std::string& path) {
  std::error_code failed;
  if (!std::filesystem::exists(std::filesystem::symlink_status(path, failed))) {
    if (!failed || failed == std::errc::no_such_file_or_directory) return std::nullopt;
    return complain("{}: cannot be read: {}", path, failed.message());
  }
  const Outcome<std::string> text = text_of(path);
  if (!text) {
    return complain(
        "{}; it says to which cluster this server belongs: restore it, or remove it if"
        " you are sure that etcd is the right one",
        text.error().text);
  }
  return text->substr(0, text->find_first_of(" \t\r\n"));
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

Outcome<> EtcdOptions::check() const {
  if (lease < kShortestLease) {
    return complain("--lease: etcd grants none below {} s", kShortestLease.count() / 1000);
  }
  if (cluster.empty() || cluster.find('/') != std::string::npos) {
    return complain("--cluster: \"{}\" is no name: it must not be empty or have a slash in it",
                    cluster);
  }
  if (cert_file.empty() != key_file.empty()) {
    return complain("--etcd-cert and --etcd-key go together: give both, or neither");
  }
  return {};
}

Outcome<std::unique_ptr<Coordination>> connect_etcd(const EtcdOptions& options, Loop& loop) {
  for (const std::string* const path : {&options.ca_file, &options.cert_file, &options.key_file}) {
    if (path->empty()) continue;
    if (const Outcome<std::string> text = text_of(*path); !text) {
      return tl::unexpected(text.error());
    }
  }
  EtcdConfig config{options.endpoints, options.ca_file, options.cert_file, options.key_file};
  Result<std::unique_ptr<Coordination>> made = make_etcd_coordination(loop, std::move(config));
  if (!made) return complain("--etcd: {}", in_words(made.error()));
  return std::move(*made);
}

Outcome<> EtcdOptions::check_listen(const std::string& listen) const {
  const std::string& reached = advertise.empty() ? listen : advertise;
  if (alone() || !is_everywhere(reached)) return {};
  return complain(
      "--{} {}: no other server, node or engine finds this one by that address, and two servers "
      "with it would take each other for themselves; with --etcd say by --advertise HOST:PORT "
      "where others reach it",
      advertise.empty() ? "listen" : "advertise", reached);
}

Outcome<> same_cluster(const std::string& directory, const std::string& id) {
  const std::filesystem::path folder(directory);
  const std::string path = (folder / "cluster").string();
  const Outcome<std::optional<std::string>> known = known_cluster(path);
  if (!known) return tl::unexpected(known.error());
  if (*known && **known == id) return {};
  if (*known) {
    return complain(
        "this server belongs to cluster {} and etcd holds cluster {}: is it the right etcd, or was "
        "it wiped? To join the new one, stop all nodes, remove {}, and start nodes with --fresh",
        **known, id, path);
  }
  std::error_code ignored;  // what is wrong shows below
  std::filesystem::create_directories(folder, ignored);
  const Descriptor opened(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened) return complain("{}: cannot be written: {}", path, std::strerror(errno));
  const std::string text = id + "\n";
  const Result<> kept = replace_file(opened.fd(), "cluster", std::as_bytes(std::span(text)));
  if (!kept) return complain("{}: cannot be written: {}", path, in_words(kept.error()));
  return {};
}

}  // namespace membrain
