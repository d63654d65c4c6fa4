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
    const std::vector<std::uint32_t> items = items_of(group);
    Task<Result<std::vector<Checksum>>> summing =
        all_hashable(group) ? collect(items, slot) : sum_here(items, slot);
    const Result<std::vector<Checksum>> sums = co_await summing;
    if (!sums) {
      end_all(group, sums.error().code);
      co_return;
    }
    for (std::size_t i = 0; i < group.count; ++i) {
      const Result<> put = job_.put(block(group.first + i, (*sums)[i]));
      end(group.first + i, put ? ItemOutcome{.ok = true} : ItemOutcome{.why = put.error().code});
    }
  }

  /// The GPU can hash these blocks one behind the other.
  [[nodiscard]] bool all_hashable(Group group) const noexcept {
    for (std::size_t i = 0; i < group.count; ++i) {
      if (!hashable(group.first + i)) return false;
    }
    return group.count <= cuda::DeviceHasher::kMaxInputs;
  }

  /// Of a copy that comes to the host.
  Task<Result<std::vector<Checksum>>> sum_here(std::span<const std::uint32_t> items,
                                               DeviceLane::Slot& slot) {
    Task<Result<>> gathering = gather(items, slot);
    const Result<> landed = co_await gathering;
    if (!landed) co_return fail(landed.error());
    std::vector<Checksum> sums;
    std::size_t at = 0;
    for (const std::uint32_t item : items) {
      const auto size = static_cast<std::size_t>(place(item).size_bytes());
      sums.push_back(checksum(slot.host().subspan(at, size)));
      at += size;
      co_await next_turn(lane().loop().ready());
    }
    co_return sums;
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
