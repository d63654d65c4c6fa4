// `membrain doctor`: whether this machine is fit for Membrain, and what to do where it is not.

#include <cerrno>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "membrain/client.h"
#include "tools/findings.h"
#include "tools/lane_probe.h"
#include "tools/output.h"
#include "tools/program.h"
#include "transport/ucx/socket.h"

namespace membrain {
namespace {

using nlohmann::json;

struct DoctorOptions {
  std::string server = "127.0.0.1:9201";
  std::string probe;
  bool fast = false;
  bool json = false;
};

/// As an exit status: 0 all is well, 1 something could be better, 2 something is broken.
Exit exit_of(Health health) {
  return static_cast<Exit>(health);
}

// ---- the server's port

enum class Port : std::uint8_t { free, taken, elsewhere };

/// Whether a server could listen there.
Port look_at_port(const std::string& address) {
  const Result<SocketAddress> resolved = resolve(address);
  if (!resolved) return Port::elsewhere;
  const Result<Descriptor> socket = open_listener(*resolved);
  if (socket) return Port::free;
  return socket.error().native == EADDRINUSE ? Port::taken : Port::elsewhere;
}

Finding unreadable_secret(const std::string& why) {
  return {"secret", Health::fail, why,
          "name a file that this user may read, or set MEMBRAIN_SECRET; no server was asked",
          false};
}

Finding examine_server(const std::string& address, const std::string& secret) {
  const std::string id = "server";
  const Port port = look_at_port(address);
  if (port == Port::free) return {id, Health::ok, address + " is free for a server", "", false};
  ClientConfig config;
  config.server = address;
  config.secret = secret;
  config.label = "membrain doctor";
  config.connect_timeout = std::chrono::milliseconds(1500);
  config.mapped = false;
  const Result<std::unique_ptr<Client>> client = Client::open(std::move(config));
  if (client) return {id, Health::ok, "a Membrain server answers at " + address, "", false};
  if (client.error().code == Errc::denied) {
    return {id, Health::warn, fmt::format("the server at {} does not take our secret", address),
            "set MEMBRAIN_SECRET or --secret-file to the cluster's", false};
  }
  if (port == Port::taken) {
    return {id, Health::warn,
            fmt::format("something at {} is no Membrain server that answers", address),
            "look who listens (ss -ltnp), or choose another port (--listen, --server)", false};
  }
  return {id, Health::warn, fmt::format("nobody answers at {}", address),
          "start `membrain server` there, and open its port and the nodes' ports in the firewall",
          false};
}

// ---- lanes

std::string in_figures(const LaneFigure& figure) {
  std::string text = fmt::format("{:.2f} GB/s", figure.bytes_per_second / 1e9);
  if (figure.roundtrip_us > 0) text += fmt::format(", 4 KiB in {:.0f} us", figure.roundtrip_us);
  return text + " by " + figure.route;
}

Finding finding_of(const LaneFigure& figure) {
  if (figure.reason.empty()) {
    return {"lane", Health::ok, fmt::format("{}: {}", figure.lane, in_figures(figure)), "", false};
  }
  return {"lane", Health::warn, fmt::format("{}: {}", figure.lane, figure.reason),
          "the lines above may say why; UCX_LOG_LEVEL=warn shows what UCX thinks of it", false};
}

// ---- what is said

std::string table_of(const std::vector<Finding>& findings, std::size_t from = 0) {
  std::string text;
  for (std::size_t i = from; i < findings.size(); ++i) {
    const Finding& finding = findings[i];
    text += fmt::format("{:<5} {:<16} {}\n", to_string(finding.health), finding.id, finding.text);
    if (!finding.cure.empty()) text += fmt::format("{:<22} -> {}\n", "", finding.cure);
  }
  return text;
}

json to_json(const std::vector<Finding>& findings, const std::vector<LaneFigure>& figures) {
  json checks = json::array();
  for (const Finding& finding : findings) {
    checks.push_back({{"id", finding.id},
                      {"health", to_string(finding.health)},
                      {"text", finding.text},
                      {"cure", finding.cure}});
  }
  json lanes = json::array();
  for (const LaneFigure& figure : figures) lanes.push_back(json::parse(to_line(figure)));
  return {{"health", to_string(worst(findings))}, {"checks", checks}, {"lanes", lanes}};
}

std::string summary_of(const std::vector<Finding>& findings) {
  const auto count = [&findings](Health health) {
    return std::ranges::count(findings, health, &Finding::health);
  };
  return fmt::format("{} ok, {} to look at, {} broken\n", count(Health::ok), count(Health::warn),
                     count(Health::fail));
}

Exit run_doctor(Program& program, const DoctorOptions& options) {
  if (!options.probe.empty()) {
    say(to_line(measure_lane(options.probe)) + "\n");
    return Exit::ok;
  }
  const MachineFacts facts = observe_machine(true);
  std::vector<Finding> findings = examine(facts);
  const Outcome<std::string> secret = program.common.secret(program.environment);
  findings.push_back(secret ? examine_server(options.server, *secret)
                            : unreadable_secret(secret.error().text));
  if (!options.json) say(table_of(findings));
  std::vector<LaneFigure> figures;
  if (!options.fast) {
    for (const std::string& lane : lanes_of(facts)) {
      figures.push_back(probe_lane(lane, program.signals));
      findings.push_back(finding_of(figures.back()));
      if (!options.json) say(table_of(findings, findings.size() - 1));
      if (program.signals.stop_asked()) return failed("doctor", "interrupted");
    }
  }
  say(options.json ? to_json(findings, figures).dump(2) + "\n" : summary_of(findings));
  return exit_of(worst(findings));
}

}  // namespace

Command doctor_command(Program& program) {
  const auto options = std::make_shared<DoctorOptions>();
  Command command("doctor",
                  "Says whether this machine is fit, and what to do where it is not; exits with 0, "
                  "1 (could be better) or 2 (broken)",
                  [&program, options] { return run_doctor(program, *options); });
  command.address("server", options->server, "Where the metadata server is, or will be")
      .toggle("fast", options->fast, "Measure nothing")
      .toggle("json", options->json, "Print one JSON object")
      .text("probe", options->probe, "LANE", "Measure one lane")
      .hide_option();
  return command;
}

}  // namespace membrain
