// Stores from a GPU's memory.
#include <algorithm>
#include <utility>

#include "cache/client/device_transfer.h"
#include "cache/client/store.h"

namespace membrain {

namespace {

class DeviceStore final : public DeviceTransfer {
 public:
  DeviceStore(DeviceLane& lane, DeviceTerms terms, StoreList list, HostStore store,
              TakesStraight straight)
      : DeviceTransfer(lane, std::move(terms)),
        list_(std::move(list)),
        store_(std::move(store)),
        straight_(std::move(straight)) {}

 private:
  using Items = std::vector<std::uint32_t>;

  Result<> check_items() const override { return check_store(list_); }
  std::size_t item_count() const noexcept override { return list_.items.size(); }
  Place place(std::size_t item) const noexcept override { return list_.place(item); }

  Task<> move(Group group, DeviceLane::Slot& slot) override {
    Items rest = items_of(group);
    if (may_go_straight(rest)) {
      Task<Items> going = send_straight(std::move(rest), slot);
      rest = co_await going;
    }
    if (rest.empty()) co_return;
    Task<> staging = send_staged(std::move(rest), slot);
    co_await staging;
  }

  [[nodiscard]] bool may_go_straight(const Items& items) {
    const auto can = [this](std::uint32_t item) {
      return hashable(item) && straight_(list_.items[item]);
    };
    return lane().straight() && items.size() <= cuda::DeviceHasher::kMaxInputs &&
           std::ranges::all_of(items, can);
  }

  /// Hashed and sent on the GPU. Yields what no node takes from there after all.
  Task<Items> send_straight(Items items, DeviceLane::Slot& slot) {
    Task<Result<std::vector<Checksum>>> collecting = collect(items, slot);
    Result<std::vector<Checksum>> sums = co_await collecting;
    if (!sums) {
      for (const std::uint32_t item : items) end(item, {.why = sums.error().code});
      co_return Items{};
    }
    const Segment there = slot.device();
    StoreList staged = list_.staged(items, there.data);
    staged.device = {there.region, std::move(*sums)};
    Task<Result<TransferReport>> storing = store_(std::move(staged), options_now(), host_token());
    const Result<TransferReport> kept = co_await storing;
    Items again;
    if (!kept) {
      end_refused(items, kept.error());
      co_return again;
    }
    count(kept->bytes, kept->lane_bytes);
    for (std::size_t i = 0; i < items.size(); ++i) {
      const ItemOutcome& outcome = kept->items[i];
      if (!outcome.ok && outcome.why == Errc::unavailable) {
        again.push_back(items[i]);
      } else {
        end(items[i], outcome);
      }
    }
    co_return again;
  }

  Task<> send_staged(Items items, DeviceLane::Slot& slot) {
    Task<Result<>> gathering = gather(items, slot);
    const Result<> landed = co_await gathering;
    if (!landed) {
      for (const std::uint32_t item : items) end(item, {.why = landed.error().code});
      co_return;
    }
    StoreList staged = list_.staged(items, slot.host().data());
    Task<Result<TransferReport>> storing = store_(std::move(staged), options_now(), host_token());
    const Result<TransferReport> kept = co_await storing;
    if (!kept) {
      end_refused(items, kept.error());
      co_return;
    }
    count(kept->bytes, kept->lane_bytes);
    for (std::size_t i = 0; i < items.size(); ++i) end(items[i], kept->items[i]);
  }

  StoreList list_;
  HostStore store_;
  TakesStraight straight_;
};

}  // namespace

Task<Result<TransferReport>> store_from_device(DeviceLane& lane, DeviceTerms terms, StoreList list,
                                               HostStore store, AskKnown known,
                                               TakesStraight straight) {
  if (const Result<> fine = check_store(list); !fine) co_return fail(fine.error());
  StoreList wanted = std::move(list);
  Task<std::vector<bool>> asking = known(wanted);
  const std::vector<bool> there = co_await asking;
  std::vector<std::size_t> missing;
  for (std::size_t i = 0; i < there.size(); ++i) {
    if (there[i]) {  // refused all the same if it could not be moved
      const Result<std::size_t> fine = lane.chunks_of(wanted.place(i));
      if (!fine) co_return fail(fine.error());
    } else {
      missing.push_back(i);
    }
  }
  const auto told = std::move(terms.options.on_item);
  if (told) {
    terms.options.on_item = [&](std::size_t item, const ItemOutcome& outcome) {
      told(missing[item], outcome);
    };
  }
  Result<TransferReport> report = TransferReport{};
  if (!missing.empty()) {
    DeviceStore storing(lane, std::move(terms), wanted.take(missing), std::move(store),
                        std::move(straight));
    Task<Result<TransferReport>> running = storing.run();
    report = co_await running;
    if (!report) co_return std::move(report);
  }
  const std::vector<ItemOutcome> stored = std::exchange(report->items, {});
  report->items.assign(there.size(), {.ok = true, .duplicate = true});
  for (std::size_t i = 0; i < missing.size(); ++i) report->items[missing[i]] = stored[i];
  for (std::size_t i = 0; i < there.size() && told; ++i) {
    if (there[i]) told(i, report->items[i]);
  }
  co_return std::move(report);
}
}  // namespace membrain
