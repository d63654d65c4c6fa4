// What a Client has for blocks that it shares: a node's two connections of its own.
#include <memory>
#include <utility>

#include "cache/client/client_runtime.h"
#include "cache/client/device_share.h"
#include "cache/share/sharer.h"
#include "transport/host_id.h"

namespace membrain {

namespace {

Task<Result<>> take_back(Sharer& sharer, std::shared_ptr<const LayoutGeometry> layout,
                         std::vector<std::uint32_t> ids) {
  Task<> taking = sharer.unshare(std::move(layout), std::move(ids));
  co_await taking;
  co_return Result<>{};
}

}  // namespace

Result<> Client::Runtime::make_sharer(const ClientConfig& config) {
  if (config.share_listen.empty()) return {};
  Result<std::unique_ptr<Fabric>> made = make_fabric(config, control_loop);
  if (!made) return fail(made.error());
  share_control = std::move(*made);
  made = make_data_fabric(config);
  if (!made) return fail(made.error());
  share_data = std::move(*made);
  auto lanes = open_lanes(config, config.share_slots, *share_data);
  if (!lanes) return fail(lanes.error());
  SharerConfig sharing;
  sharing.server = config.server;
  sharing.secret = config.secret;
  sharing.host = host_id();
  sharing.listen = config.share_listen;
  sharing.advertise = config.share_advertise;
  sharer = std::make_unique<Sharer>(*share_control, *share_data, std::move(*lanes), sharing);
  const Result<Address> listening = sharer->start();
  if (!listening) return fail(listening.error());
  return {};
}

Operation<TransferReport> Client::Runtime::share(const OpenedNamespace& space, StoreList list,
                                                 TransferOptions options) {
  if (sharer == nullptr) {
    return refused(
        {Errc::unavailable, 0, "ClientConfig::share_listen is empty: nothing is shared"});
  }
  auto cancel = std::make_shared<CancelToken>();
  const auto put = [this](SharedBlock block) { return sharer->share(std::move(block)); };
  return Operation<TransferReport>(
      run_transfer(core->share(space, std::move(list), std::move(options), cancel, put), cancel));
}

Result<> Client::Runtime::unshare(std::shared_ptr<const LayoutGeometry> layout,
                                  std::vector<std::uint32_t> ids) {
  if (sharer == nullptr) return {};
  return run(data_loop(), take_back(*sharer, std::move(layout), std::move(ids)));
}

}  // namespace membrain
