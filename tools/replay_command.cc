// `membrain replay`: plays a trace of requests and checks every byte.

#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "tools/output.h"
#include "tools/program.h"
#include "tools/replay.h"
#include "tools/story.h"

namespace membrain {
namespace {

struct ReplayCommand {
  ReplayOptions replay;
  bool json = false;
};

Exit verdict(const Outcome<>& played, const Totals& totals) {
  if (!played) return failed("replay", played.error().text);
  if (totals.wrong_bytes != 0) return failed("replay", "bytes were wrong");
  if (totals.engines_lost != 0) return failed("replay", "an engine died");
  return Exit::ok;
}

Exit run_replay(Program& program, const ReplayCommand& options) {
  if (const Outcome<> sane = check_options(options.replay); !sane) {
    complain_aloud("replay", sane.error().text);
    return Exit::usage;
  }
  const Outcome<std::vector<TraceRequest>> requests =
      read_trace(options.replay.trace, options.replay.requests);
  if (!requests) return failed("replay", requests.error().text);
  const auto observer = [](std::size_t engine, const TraceRequest&, const EngineReport& report) {
    if (!log_enabled(LogLevel::debug)) return;
    for (const Event& event : events_of(engine, report)) {
      log(LogLevel::debug, "{}", event.text);
    }
  };
  Totals totals;
  const Outcome<> played = play(program, options.replay, *requests, observer, totals);
  const bool anything = totals.requests != 0;
  if (anything) say(options.json ? to_json(totals) : to_table(totals));
  return verdict(played, totals);
}

}  // namespace

Command replay_command(Program& program) {
  const auto options = std::make_shared<ReplayCommand>();
  Command command("replay", "Plays a request trace with engine processes and checks every byte",
                  [&program, options] { return run_replay(program, *options); });
  ReplayOptions& replay = options->replay;
  command
      .text("trace", replay.trace, "FILE", "The trace: a JSON object per line, Mooncake's format")
      .required()
      .count("requests", replay.requests, "Play only the first N requests")
      .standard("all");
  bind_replay_options(command, replay);
  command.toggle("in-order", replay.in_order, "Play strictly one request after another")
      .servers("server", replay.server, "Use this running cluster")
      .standard("a server and nodes are started, and end with the replay")
      .text("space", replay.space, "NAME", "Namespace of the blocks on a cluster that stays")
      .toggle("json", options->json, "Print one JSON object instead of a table");
  return command;
}

}  // namespace membrain
