#include "tools/running_server.h"

#include <chrono>
#include <future>
#include <utility>

#include "server/file_state_store.h"
#include "tools/program.h"
#include "tools/status_json.h"
#include "transport/ucx/ucx_fabric.h"

namespace membrain {
namespace {

constexpr std::chrono::seconds kStatusPatience(2);

Outcome<std::unique_ptr<StateStore>> open_state(const ServerOptions& options) {
  if (options.temporary) return std::make_unique<MemoryStateStore>();
  Result<std::unique_ptr<FileStateStore>> store = FileStateStore::open(options.state_dir);
  if (!store) {
    return complain("the state directory {} cannot be used: {}; is another server running on it?",
                    options.state_dir, in_words(store.error()));
  }
  return std::move(*store);
}

}  // namespace

RunningServer::RunningServer() : control_("server") {}

Outcome<std::unique_ptr<RunningServer>> RunningServer::start(const ServerOptions& options,
                                                             std::shared_ptr<UcxContext> context) {
  std::unique_ptr<RunningServer> server(new RunningServer);
  Outcome<std::unique_ptr<StateStore>> state = open_state(options);
  if (!state) return tl::unexpected(state.error());
  server->state_ = std::move(*state);
  Result<std::unique_ptr<Fabric>> fabric =
      make_ucx_fabric(std::move(context), server->control_.loop(), {options.secret, "server"});
  if (!fabric) return complain("UCX cannot be used: {}", in_words(fabric.error()));
  server->fabric_ = std::move(*fabric);
  ShardConfig config;
  config.secret = options.secret;
  config.expected_blocks = options.expected_blocks;
  server->service_ =
      std::make_unique<ShardService>(*server->fabric_, std::move(config), *server->state_);
  if (const Result<> started = server->service_->start(options.listen); !started) {
    return complain("cannot listen on {}: {}; stop who has that port, or take another --listen",
                    options.listen, in_words(started.error()));
  }
  server->control_.start();
  server->running_ = true;
  if (options.no_admin) return server;
  Outcome<std::unique_ptr<AdminHttp>> admin =
      AdminHttp::start(options.admin, [raw = server.get()]() -> Outcome<std::string> {
        const Outcome<ShardStatus> status = raw->status();
        if (!status) return tl::unexpected(status.error());
        return to_json(*status);
      });
  if (!admin) return tl::unexpected(admin.error());
  server->admin_ = std::move(*admin);
  return server;
}

RunningServer::~RunningServer() {
  admin_.reset();
  if (!running_) return;
  control_.run(service_->stop());
  control_.stop();
}

Outcome<ShardStatus> RunningServer::status() {
  const auto promise = std::make_shared<std::promise<ShardStatus>>();
  std::future<ShardStatus> status = promise->get_future();
  const Result<> posted = control_.loop().inbox().post(
      [service = service_.get(), promise] { promise->set_value(service->status()); });
  if (!posted || status.wait_for(kStatusPatience) != std::future_status::ready) {
    return complain("the server's loop does not answer");
  }
  return status.get();
}

}  // namespace membrain
