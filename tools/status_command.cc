// `membrain status`: what a running server knows.

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "membrain/client.h"
#include "tools/output.h"
#include "tools/program.h"
#include "tools/units.h"

namespace membrain {
namespace {

struct StatusOptions {
  std::string server = "127.0.0.1:9201";
  std::chrono::milliseconds timeout{3000};
  bool json = false;
};

using Counters = std::map<std::string, std::uint64_t>;

std::string value_of(const std::string& name, std::uint64_t value) {
  if (name.ends_with("_bytes") || name.starts_with("bytes_")) return format_size(value);
  return format_count(value);
}

/// Names left, values right.
std::string table_of(const std::string& server, const Counters& counters) {
  std::size_t names = 0;
  std::size_t values = 0;
  for (const auto& [name, value] : counters) {
    names = std::max(names, name.size());
    values = std::max(values, value_of(name, value).size());
  }
  std::string text = fmt::format("server {}\n", server);
  for (const auto& [name, value] : counters) {
    text += fmt::format("  {:<{}}  {:>{}}\n", name, names, value_of(name, value), values);
  }
  return text;
}

Exit run_status(Program& program, const StatusOptions& options) {
  const Outcome<std::string> secret = program.common.secret(program.environment);
  if (!secret) return failed("status", secret.error().text);
  // Whoever asks may be another user than the server's, whom UCX's shared memory does not join.
  ::setenv("UCX_TLS", "^shm", 0);
  ClientConfig config;
  config.server = options.server;
  config.secret = *secret;
  config.label = "membrain status";
  config.connect_timeout = options.timeout;
  config.default_timeout = options.timeout;
  Result<std::unique_ptr<Client>> client = Client::open(std::move(config));
  if (!client) {
    const bool denied = client.error().code == Errc::denied;
    return failed("status",
                  fmt::format("no answer from a server at {}: {}; {}", options.server,
                              in_words(client.error()),
                              denied ? "is MEMBRAIN_SECRET or --secret-file the cluster's?"
                                     : "does it run (membrain server), and is --server right?"));
  }
  const Result<Counters> counters = (*client)->server_stats();
  if (!counters) {
    return failed("status", fmt::format("the server at {} gave no counters: {}", options.server,
                                        in_words(counters.error())));
  }
  say(options.json ? nlohmann::json(*counters).dump(2) + "\n"
                   : table_of(options.server, *counters));
  return Exit::ok;
}

}  // namespace

Command status_command(Program& program) {
  const auto options = std::make_shared<StatusOptions>();
  Command command("status", "Shows what a running server knows: nodes, blocks, sessions",
                  [&program, options] { return run_status(program, *options); });
  command.servers("server", options->server, "The metadata server")
      .duration("timeout", options->timeout, "How long to wait for it")
      .toggle("json", options->json, "Print one JSON object");
  return command;
}

}  // namespace membrain
