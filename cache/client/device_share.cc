#include "cache/client/device_share.h"

#include <utility>
#include <vector>

#include "cache/client/store.h"
#include "transport/next_turn.h"

namespace membrain {

namespace {

class DeviceShare final : public DeviceTransfer {
 public:
  DeviceShare(DeviceLane& lane, DeviceTerms terms, ShareJob job)
      : DeviceTransfer(lane, std::move(terms)), job_(std::move(job)) {}

 private:
  Result<> check_items() const override { return check_store(job_.list); }
  std::size_t item_count() const noexcept override { return job_.list.items.size(); }
  Place place(std::size_t item) const noexcept override { return job_.list.place(item); }

  Task<> move(Group group, DeviceLane::Slot& slot) override {
    Task<Result<>> gathering = gather(group, slot);
    const Result<> landed = co_await gathering;
    if (!landed) {
      end_all(group, landed.error().code);
      co_return;
    }
    std::size_t at = 0;
    for (std::size_t item = group.first; item < group.first + group.count; ++item) {
      const auto size = static_cast<std::size_t>(place(item).size_bytes());
      const Result<> put = job_.put(block(item, checksum(slot.host().subspan(at, size))));
      at += size;
      end(item, put ? ItemOutcome{.ok = true} : ItemOutcome{.why = put.error().code});
      co_await next_turn(lane().loop().ready());
    }
  }

  [[nodiscard]] SharedBlock block(std::size_t item, const Checksum& sum) const {
    SharedBlock block;
    block.meta = job_.meta(job_.list.items[item]);
    block.length = static_cast<std::uint32_t>(place(item).size_bytes());
    block.checksum = sum;
    block.layout = job_.list.layout;
    block.id = job_.list.ids[item];
    block.device = device();
    return block;
  }

  ShareJob job_;
};

}  // namespace

Task<Result<TransferReport>> share_from_device(DeviceLane& lane, DeviceTerms terms, ShareJob job) {
  DeviceShare sharing(lane, std::move(terms), std::move(job));
  Task<Result<TransferReport>> running = sharing.run();
  co_return co_await running;
}

}  // namespace membrain
