// `membrain torture-engine`: what torture starts. Records go to stdout until stdin ends.

#include <poll.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>

#include "tools/output.h"
#include "tools/torture_commands.h"
#include "tools/torture_engine.h"

namespace membrain {
namespace {

constexpr int kRetryMs = 50;

/// What stands on standard input, as it comes.
class Orders {
 public:
  /// Looks for at most so long. False once the input has ended.
  bool look(int longest_ms) {
    pollfd fd{STDIN_FILENO, POLLIN, 0};
    if (::poll(&fd, 1, longest_ms) <= 0) return true;
    std::array<char, 256> portion{};
    const ssize_t got = ::read(STDIN_FILENO, portion.data(), portion.size());
    if (got <= 0) return false;
    text_.append(portion.data(), static_cast<std::size_t>(got));
    return true;
  }
  [[nodiscard]] bool rest() const { return text_.find(kTortureRest) != std::string::npos; }

 private:
  std::string text_;
};

Exit run_engine(Program& program, TortureEngineConfig config, std::uint64_t began) {
  const Outcome<std::string> secret = program.common.secret(program.environment);
  if (!secret) return failed("torture-engine", secret.error().text);
  config.secret = *secret;
  config.blocks.began = TimePoint(std::chrono::nanoseconds(static_cast<std::int64_t>(began)));
  Orders orders;
  const auto tell = [](const TortureRecord& record) { say(to_line(record) + "\n"); };
  std::unique_ptr<TortureEngine> engine;
  while (!engine && !orders.rest()) {
    engine = TortureEngine::open(config, tell);
    if (!engine && !orders.look(kRetryMs)) return Exit::ok;
  }
  while (engine && !orders.rest()) {
    engine->step();
    if (!orders.look(0)) return Exit::ok;
  }
  if (engine) engine->release_all();
  TortureRecord resting;
  resting.op = TortureRecord::Op::resting;
  tell(resting);
  while (orders.look(-1)) continue;
  return Exit::ok;
}

}  // namespace

Command torture_engine_command(Program& program) {
  struct Options {
    TortureEngineConfig engine;
    std::uint64_t began = 0;
  };
  const auto options = std::make_shared<Options>();
  Command command(
      "torture-engine", "One engine of torture, which starts it itself",
      [&program, options] { return run_engine(program, options->engine, options->began); });
  TortureEngineConfig& engine = options->engine;
  command.servers("server", engine.server, "The metadata servers")
      .text("label", engine.label, "NAME", "How the server calls this engine")
      .count("began", options->began, "When the run began, in ns of the monotonic clock")
      .size("block-bytes", engine.blocks.block_bytes, "Size of the largest block")
      .count("seed", engine.seed, "Of what it does")
      .duration("timeout", engine.timeout, "The longest that one operation may take")
      .choice("mapped", engine.mapped, "Read and write arenas of this host in place");
  return command.hide();
}

}  // namespace membrain
