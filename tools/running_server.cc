#include "tools/running_server.h"

#include <filesystem>
#include <utility>

#include "server/file_state_store.h"
#include "tools/program.h"
#include "transport/ucx/ucx_fabric.h"

namespace membrain {
namespace {

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
  Result<Address> address = server->service_->start(options.listen);
  if (!address) {
    return complain("cannot listen on {}: {}; stop who has that port, or take another --listen",
                    options.listen, in_words(address.error()));
  }
  server->address_ = std::move(*address);
  server->control_.start();
  if (options.no_admin) return server;
  Outcome<std::unique_ptr<AdminHttp>> admin =
      AdminHttp::start(options.admin, [raw = server.get()] { return raw->counters(); });
  if (!admin) return tl::unexpected(admin.error());
  server->admin_ = std::move(*admin);
  return server;
}

}  // namespace membrain
