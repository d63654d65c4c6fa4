#include "cache/client/device_transfer.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "cache/client/fetch.h"
#include "cache/client/store.h"

namespace membrain {

DeviceTransfer::DeviceTransfer(DeviceLane& lane, DeviceTerms terms)
    : lane_(lane), terms_(std::move(terms)), workers_(lane.loop().ready()) {}

Task<Result<TransferReport>> DeviceTransfer::run() {
  Result<> fine = check_items();
  if (fine) fine = plan();
  if (!fine) {
    workers_.finish({});
    co_return fail(fine.error());
  }
  report_.items.resize(item_count());
  if (terms_.cancel) terms_.cancel->on_request([this] { cancel(); });
  if (terms_.cancel && terms_.cancel->requested()) cancelled_ = true;
  Result<> ready;
  if (terms_.options.memory.after != nullptr) {
    Task<Result<>> reaching = lane_.reached(
        static_cast<cuda::RawEvent>(terms_.options.memory.after), terms_.deadline, stopped());
    ready = co_await reaching;
  }
  if (!ready) {
    for (; next_group_ < groups_.size(); ++next_group_) {
      end_all(groups_[next_group_], ready.error().code);
    }
  }
  const std::size_t workers = std::min(groups_.size() - next_group_, lane_.slot_count());
  workers_.expect(static_cast<std::uint32_t>(workers));
  for (std::size_t i = 0; i < workers; ++i) lane_.loop().spawn(work());
  workers_.finish({});
  const Result<> ended = co_await workers_;
  if (terms_.cancel) terms_.cancel->on_request(nullptr);
  if (!ended) co_return fail(ended.error());
  if (cancelled_) co_return fail(Errc::cancelled, "the transfer was taken back");
  if (refused_) co_return fail(*refused_);
  co_return std::move(report_);
}

Result<> DeviceTransfer::plan() {
  std::uint64_t bytes = 0;
  std::size_t chunks = 0;
  for (std::size_t item = 0; item < item_count(); ++item) {
    const Place at = place(item);
    const Result<std::size_t> own = lane_.chunks_of(at);
    if (!own) return fail(own.error());
    const std::uint64_t most = std::min(kGroupBytes, std::uint64_t{lane_.slot_bytes()});
    const bool fits = bytes + at.size_bytes() <= most && chunks + *own <= DeviceLane::kMaxChunks;
    if (groups_.empty() || !fits) {
      groups_.push_back({item, 0});
      bytes = 0;
      chunks = 0;
    }
    ++groups_.back().count;
    bytes += at.size_bytes();
    chunks += *own;
  }
  return {};
}

Task<> DeviceTransfer::work() {
  while (next_group_ < groups_.size()) {
    const Group group = groups_[next_group_++];
    Task<Result<DeviceLane::Slot>> taking = lane_.take(terms_.deadline, stopped());
    Result<DeviceLane::Slot> slot = co_await taking;
    if (!slot) {
      end_all(group, slot.error().code);
      continue;
    }
    Task<> moving = move(group, *slot);
    co_await moving;
  }
  workers_.finish({});
}

void DeviceTransfer::cancel() {
  cancelled_ = true;
  for (const std::weak_ptr<CancelToken>& token : host_tokens_) {
    if (const std::shared_ptr<CancelToken> running = token.lock()) running->request();
  }
  lane_.stir();
}

DeviceLane::Stopped DeviceTransfer::stopped() const {
  return [this] { return cancelled_; };
}

TransferOptions DeviceTransfer::options_now() const {
  using std::chrono::milliseconds;
  TransferOptions options;
  const Duration left = terms_.deadline - lane_.loop().now();
  options.timeout = std::max(std::chrono::duration_cast<milliseconds>(left), milliseconds(1));
  return options;
}

std::shared_ptr<CancelToken> DeviceTransfer::host_token() {
  auto token = std::make_shared<CancelToken>();
  std::erase_if(host_tokens_, [](const auto& other) { return other.expired(); });
  host_tokens_.push_back(token);
  if (cancelled_) token->request();
  return token;
}

Task<Result<>> DeviceTransfer::gather(Group group, DeviceLane::Slot& slot) {
  std::vector<cuda::DevicePiece> pieces;
  for (std::size_t i = 0; i < group.count; ++i) add_pieces(group.first + i, pieces);
  Task<Result<>> gathering = lane_.gather(slot, pieces);
  co_return co_await gathering;
}

void DeviceTransfer::add_pieces(std::size_t item, std::vector<cuda::DevicePiece>& pieces) const {
  place(item).for_each_piece([&pieces](const std::byte* data, std::size_t size) {
    pieces.push_back({reinterpret_cast<cuda::Address>(data), size});
  });
}

void DeviceTransfer::count(std::uint64_t bytes, const LaneBytes& lanes) {
  report_.bytes += bytes;
  for (const auto& [lane, moved] : lanes) report_.lane_bytes[lane] += moved;
}

void DeviceTransfer::end(std::size_t item, const ItemOutcome& outcome) {
  report_.items[item] = outcome;
  if (terms_.options.on_item) terms_.options.on_item(item, outcome);
}

void DeviceTransfer::end_all(Group group, Errc why) {
  for (std::size_t i = 0; i < group.count; ++i) end(group.first + i, {.why = why});
}

void DeviceTransfer::end_refused(std::span<const std::uint32_t> items, const Error& why) {
  for (const std::uint32_t item : items) end(item, {.why = why.code});
  if (why.code != Errc::cancelled && !refused_) refused_ = why;
}

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
    Task<std::vector<std::uint32_t>> pulling = pull(group, slot);
    const std::vector<std::uint32_t> rest = co_await pulling;
    if (rest.empty()) co_return;
    FetchList staged = items_.picked(rest).staged(0, rest.size(), slot.host().data());
    Task<Result<TransferReport>> fetching =
        fetch_(match_, std::move(staged), options_now(), host_token());
    const Result<TransferReport> got = co_await fetching;
    if (!got) {
      end_refused(rest, got.error());
      co_return;
    }
    std::vector<cuda::DevicePiece> pieces;
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < rest.size(); ++i) {
      const std::uint64_t size = place(rest[i]).size_bytes();
      if (got->items[i].ok) {
        add_pieces(rest[i], pieces);
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
    if (landed) count(bytes, got->lane_bytes);
    for (std::size_t i = 0; i < rest.size(); ++i) {
      const bool lost = got->items[i].ok && !landed;
      end(rest[i], lost ? ItemOutcome{.why = landed.error().code} : got->items[i]);
    }
  }

  /// Lets the GPU read what it can by itself, and ends that. The others.
  Task<std::vector<std::uint32_t>> pull(Group group, DeviceLane::Slot& slot) {
    ArenaPull pulling(lane(), slot, pull_);
    for (std::size_t i = 0; i < group.count; ++i) {
      pulling.offer(*match_, items_[group.first + i], group.first + i);
    }
    Task<std::vector<std::size_t>> running = pulling.run();
    const std::vector<std::size_t> here = co_await running;
    if (!here.empty()) count(pulling.bytes(), {{kPulledLane, pulling.bytes()}});
    std::vector<std::uint32_t> rest;
    auto next = here.begin();
    for (std::size_t item = group.first; item < group.first + group.count; ++item) {
      if (next != here.end() && *next == item) {
        ++next;
        end(item, {.ok = true});
      } else {
        rest.push_back(static_cast<std::uint32_t>(item));
      }
    }
    co_return rest;
  }

  std::shared_ptr<const Match::State> match_;
  FetchList items_;
  HostFetch fetch_;
  PullTerms pull_;
};

class DeviceStore final : public DeviceTransfer {
 public:
  DeviceStore(DeviceLane& lane, DeviceTerms terms, StoreList list, HostStore store)
      : DeviceTransfer(lane, std::move(terms)), list_(std::move(list)), store_(std::move(store)) {}

 private:
  Result<> check_items() const override { return check_store(list_); }
  std::size_t item_count() const noexcept override { return list_.items.size(); }
  Place place(std::size_t item) const noexcept override { return list_.place(item); }

  Task<> move(Group group, DeviceLane::Slot& slot) override {
    Task<Result<>> gathering = gather(group, slot);
    const Result<> landed = co_await gathering;
    if (!landed) {
      end_all(group, landed.error().code);
      co_return;
    }
    StoreList staged = list_.staged(group.first, group.count, slot.host().data());
    Task<Result<TransferReport>> storing = store_(std::move(staged), options_now(), host_token());
    const Result<TransferReport> kept = co_await storing;
    if (!kept) {
      std::vector<std::uint32_t> all(group.count);
      std::iota(all.begin(), all.end(), static_cast<std::uint32_t>(group.first));
      end_refused(all, kept.error());
      co_return;
    }
    count(kept->bytes, kept->lane_bytes);
    for (std::size_t i = 0; i < group.count; ++i) end(group.first + i, kept->items[i]);
  }

  StoreList list_;
  HostStore store_;
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

Task<Result<TransferReport>> store_from_device(DeviceLane& lane, DeviceTerms terms, StoreList list,
                                               HostStore store, AskKnown known) {
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
    DeviceStore storing(lane, std::move(terms), wanted.take(missing), std::move(store));
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
