// `membrain engine`: what replay and demo start. Tasks come on stdin, reports go to stdout.

#include <iostream>
#include <memory>
#include <string>

#include "tools/engine.h"
#include "tools/output.h"
#include "tools/program.h"

namespace membrain {
namespace {

Exit run_engine(Program& program, EngineConfig config) {
  const Outcome<std::string> secret = program.common.secret(program.environment);
  if (!secret) return failed("engine", secret.error().text);
  config.secret = *secret;
  const Outcome<std::unique_ptr<Engine>> engine = Engine::open(config);
  if (!engine) {
    say(engine.error().text + "\n");
    return Exit::failure;
  }
  say(std::string(kEngineReady) + "\n");
  for (std::string line; std::getline(std::cin, line);) {
    const Outcome<EngineTask> task = task_from_line(line);
    if (!task) return failed("engine", task.error().text);
    say(to_line((*engine)->play(*task)) + "\n");
  }
  return Exit::ok;
}

}  // namespace

Command engine_command(Program& program) {
  const auto config = std::make_shared<EngineConfig>();
  Command command("engine", "One engine of replay or demo, which start it themselves",
                  [&program, config] { return run_engine(program, *config); });
  command.servers("server", config->server, "The metadata server")
      .text("label", config->label, "NAME", "How the server calls this engine")
      .text("space", config->space, "NAME", "The namespace of its blocks")
      .size("block-bytes", config->block_bytes, "Size of a block")
      .duration("timeout", config->timeout, "The longest that one operation may take")
      .toggle("one-sided-reads", config->one_sided_reads, "Read by RDMA alone where nodes allow it")
      .choice("verify", config->verify, "Hash what arrived before using it");
  return command.hide();
}

}  // namespace membrain
