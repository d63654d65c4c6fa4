#include "cache/client/device_transfer.h"

#include <algorithm>
#include <numeric>
#include <utility>

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

std::vector<std::uint32_t> DeviceTransfer::items_of(Group group) {
  std::vector<std::uint32_t> items(group.count);
  std::iota(items.begin(), items.end(), static_cast<std::uint32_t>(group.first));
  return items;
}

Task<Result<>> DeviceTransfer::gather(std::span<const std::uint32_t> items,
                                      DeviceLane::Slot& slot) {
  std::vector<cuda::DevicePiece> pieces;
  for (const std::uint32_t item : items) add_pieces(item, pieces);
  Task<Result<>> gathering = lane_.gather(slot, pieces);
  co_return co_await gathering;
}

bool DeviceTransfer::hashable(std::size_t item) const noexcept {
  constexpr std::uint64_t kAligned = 16;
  const std::uint64_t bytes = place(item).size_bytes();
  return bytes >= cuda::DeviceHasher::kMinBytes && bytes % kAligned == 0;
}

Task<Result<std::vector<Checksum>>> DeviceTransfer::collect(std::span<const std::uint32_t> items,
                                                            DeviceLane::Slot& slot) {
  std::vector<cuda::DevicePiece> pieces;
  std::vector<cuda::StagedBlock> blocks;
  std::uint64_t at = 0;
  for (const std::uint32_t item : items) {
    add_pieces(item, pieces);
    blocks.push_back({at, place(item).size_bytes()});
    at += blocks.back().bytes;
  }
  Task<Result<std::vector<Checksum>>> hashing = lane_.hash(slot, pieces, blocks);
  co_return co_await hashing;
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

}  // namespace membrain
