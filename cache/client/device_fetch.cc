// Fetches into a GPU's memory.
#include <algorithm>
#include <deque>
#include <utility>

#include "cache/client/device_transfer.h"
#include "cache/client/fetch.h"
#include "cache/memory/straight.h"

namespace membrain {

namespace {

class DeviceFetch final : public DeviceTransfer {
 public:
  DeviceFetch(DeviceLane& lane, DeviceTerms terms, std::shared_ptr<const Match::State> match,
              FetchList items, HostFetch fetch, PullTerms pull)
      : DeviceTransfer(lane, std::move(terms)),
        match_(std::move(match)),
        items_(std::move(items)),
        fetch_(std::move(fetch)),
        pull_(std::move(pull)) {}

 private:
  using Items = std::vector<std::uint32_t>;
  /// Whether blocks may come to the slot's memory on the GPU.
  enum class Way : std::uint8_t { straight, staged };
  /// What a fetch brought to a slot: where each item is, and how it ended.
  struct Landing {
    Items items;
    std::deque<DeviceSpot> spots;  ///< by place in `items`; fetches point to them
    std::vector<ItemOutcome> outcomes;
    LaneBytes host_lanes;  ///< of what came to the host
    Items again;           ///< to be fetched once more, to the host

    [[nodiscard]] bool on_gpu(std::size_t i) const noexcept {
      return outcomes[i].ok && spots[i].landed;
    }
    [[nodiscard]] bool on_host(std::size_t i) const noexcept {
      return outcomes[i].ok && !spots[i].landed;
    }
  };

  Result<> check_items() const override {
    if (!match_ || match_->probe) {
      return fail(Errc::invalid_argument, "a probe pins nothing: nothing can be fetched from it");
    }
    for (std::size_t item = 0; item < items_.size(); ++item) {
      const Result<std::uint32_t> bytes = wanted_bytes(*match_, items_[item]);
      if (!bytes) return fail(bytes.error());
    }
    return {};
  }
  std::size_t item_count() const noexcept override { return items_.size(); }
  Place place(std::size_t item) const noexcept override { return items_[item].into; }

  Task<> move(Group group, DeviceLane::Slot& slot) override {
    Task<Items> pulling = pull(group, slot);
    Items rest = co_await pulling;
    for (Way way = lane().straight() ? Way::straight : Way::staged; !rest.empty();
         way = Way::staged) {
      Task<Items> bringing = bring(std::move(rest), slot, way);
      rest = co_await bringing;
    }
  }

  /// Fetches items by way of the slot, and ends them. Those that are to come once more, staged:
  /// none if they did.
  Task<Items> bring(Items items, DeviceLane::Slot& slot, Way way) {
    DeviceRoom room(slot.device());
    Landing got;
    got.items = std::move(items);
    FetchList staged = items_.picked(got.items).staged(0, got.items.size(), slot.host().data());
    for (std::size_t i = 0; i < got.items.size(); ++i) {
      got.spots.emplace_back().room = &room;
      const bool straight = way == Way::straight && i < cuda::DeviceHasher::kMaxInputs &&
                            may_come_straight(got.items[i]);
      if (straight) staged.allow(i, got.spots[i]);
    }
    Task<Result<TransferReport>> fetching =
        fetch_(match_, std::move(staged), options_now(), host_token());
    Result<TransferReport> report = co_await fetching;
    if (!report) {
      end_refused(got.items, report.error());
      co_return Items{};
    }
    count(report->detours);
    got.outcomes = std::move(report->items);
    got.host_lanes = std::move(report->lane_bytes);
    // First what is on the GPU: what comes from the host goes over the same memory there.
    Task<> keeping = keep_landed(got, slot);
    co_await keeping;
    Task<> scattering = scatter_rest(got, slot, way);
    co_await scattering;
    co_return std::move(got.again);
  }

  /// The GPU can say whether it came right, or nobody asks.
  [[nodiscard]] bool may_come_straight(std::size_t item) const noexcept {
    if (!pull_.verify) return true;
    const WantedRange& asked = items_[item];
    const auto replicas = match_->replicas_of(asked.block, asked.part);
    return hashable(item) && !replicas.empty() &&
           place(item).size_bytes() == replicas.front().at.length;
  }

  /// Of what has landed on the GPU, what is right goes to the pages; the rest comes again.
  Task<> keep_landed(Landing& got, DeviceLane::Slot& slot) {
    std::vector<std::size_t> landed;
    for (std::size_t i = 0; i < got.items.size(); ++i) {
      if (got.on_gpu(i)) landed.push_back(i);
    }
    if (landed.empty()) co_return;
    std::ranges::sort(landed, {}, [&](std::size_t i) { return got.spots[i].at; });
    std::vector<cuda::StagedBlock> blocks;
    for (const std::size_t i : landed) {
      blocks.push_back({got.spots[i].at, place(got.items[i]).size_bytes()});
    }
    Result<std::vector<Checksum>> sums;
    if (pull_.verify) {
      Task<Result<std::vector<Checksum>>> hashing = lane().hash(slot, {}, blocks);
      sums = co_await hashing;
    }
    std::vector<std::size_t> right;
    for (std::size_t i = 0; i < landed.size(); ++i) {
      const bool same = !pull_.verify || (sums && (*sums)[i] == got.spots[landed[i]].wanted);
      if (same) {
        right.push_back(landed[i]);
      } else {
        got.again.push_back(got.items[landed[i]]);
      }
    }
    Task<> spreading = spread(got, right, slot);
    co_await spreading;
  }

  /// `right` of what has landed, by its place in the slot, to the pages.
  Task<> spread(Landing& got, const std::vector<std::size_t>& right, DeviceLane::Slot& slot) {
    if (right.empty()) co_return;
    std::vector<cuda::DevicePiece> pieces;
    std::uint64_t at = 0;
    for (const std::size_t i : right) {
      const DeviceSpot& spot = got.spots[i];
      if (spot.at != at) pieces.push_back({0, spot.at - at});
      add_pieces(got.items[i], pieces);
      at = spot.at + place(got.items[i]).size_bytes();
    }
    Task<Result<>> spreading = lane().spread(slot, pieces);
    const Result<> spread = co_await spreading;
    for (const std::size_t i : right) {
      if (!spread) {
        end(got.items[i], {.why = spread.error().code});
        continue;
      }
      const std::uint64_t bytes = place(got.items[i]).size_bytes();
      count(bytes, {{straight_lane(got.spots[i].lane), bytes}});
      end(got.items[i], got.outcomes[i]);
    }
  }

  /// What has come to the host goes to the pages. What has not come at all ends; if it was to come
  /// straight and could not, it comes again.
  Task<> scatter_rest(Landing& got, DeviceLane::Slot& slot, Way way) {
    std::vector<cuda::DevicePiece> pieces;
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < got.items.size(); ++i) {
      const std::uint64_t size = place(got.items[i]).size_bytes();
      if (got.on_host(i)) {
        add_pieces(got.items[i], pieces);
        bytes += size;
      } else {
        pieces.push_back({0, size});
      }
    }
    Result<> landed;
    if (bytes != 0) {
      Task<Result<>> scattering = lane().scatter(slot, pieces);
      landed = co_await scattering;
    }
    if (landed) count(bytes, got.host_lanes);
    for (std::size_t i = 0; i < got.items.size(); ++i) {
      if (got.on_gpu(i)) continue;
      const bool lost = got.on_host(i) && !landed;
      if (way == Way::straight && got.outcomes[i].why == Errc::unavailable && !got.on_host(i)) {
        got.again.push_back(got.items[i]);
      } else {
        end(got.items[i], lost ? ItemOutcome{.why = landed.error().code} : got.outcomes[i]);
      }
    }
  }

  /// Lets the GPU read what it can by itself, and ends that. The others.
  Task<Items> pull(Group group, DeviceLane::Slot& slot) {
    ArenaPull pulling(lane(), slot, pull_);
    for (std::size_t i = 0; i < group.count; ++i) {
      pulling.offer(*match_, items_[group.first + i], group.first + i);
    }
    Task<std::vector<std::size_t>> running = pulling.run();
    const std::vector<std::size_t> here = co_await running;
    if (!here.empty()) count(pulling.bytes(), {{kPulledLane, pulling.bytes()}});
    Items rest;
    auto next = here.begin();
    for (const std::uint32_t item : items_of(group)) {
      if (next != here.end() && *next == item) {
        ++next;
        end(item, {.ok = true});
      } else {
        rest.push_back(item);
      }
    }
    co_return rest;
  }

  std::shared_ptr<const Match::State> match_;
  FetchList items_;
  HostFetch fetch_;
  PullTerms pull_;
};

}  // namespace

Task<Result<TransferReport>> fetch_to_device(DeviceLane& lane, DeviceTerms terms,
                                             std::shared_ptr<const Match::State> match,
                                             FetchList items, HostFetch fetch, PullTerms pull) {
  DeviceFetch fetching(lane, std::move(terms), std::move(match), std::move(items), std::move(fetch),
                       std::move(pull));
  Task<Result<TransferReport>> running = fetching.run();
  co_return co_await running;
}

}  // namespace membrain
