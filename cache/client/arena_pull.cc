#include "cache/client/arena_pull.h"

#include <algorithm>
#include <optional>

#include "transport/cuda/checksum.h"

namespace membrain {

namespace {

constexpr std::uint64_t kAligned = 16;  ///< what the hasher wants of addresses

}  // namespace

ArenaPull::ArenaPull(DeviceLane& lane, DeviceLane::Slot& slot, const PullTerms& terms)
    : lane_(lane),
      slot_(slot),
      verify_(terms.verify),
      arenas_(terms.arenas ? terms.arenas() : nullptr) {}

void ArenaPull::offer(const Match::State& match, const WantedRange& item, std::size_t number) {
  if (!arenas_ || wanted_.size() == cuda::DeviceHasher::kMaxInputs) return;
  const std::optional<MappedItem> mapped = mapped_replica(match, item.block, item.part, *arenas_);
  const PinnedArena* const pinned = mapped ? arenas_->pinned(mapped->at->node) : nullptr;
  if (pinned == nullptr) return;
  const Location& at = *mapped->at;
  const std::uint64_t bytes = item.into.size_bytes();
  if (item.offset > at.length || bytes > at.length - item.offset) return;
  const bool comparable = bytes == at.length && bytes >= cuda::DeviceHasher::kMinBytes;
  if (bytes == 0 || bytes % kAligned != 0 || (verify_ && !comparable)) return;
  if (!mapped->arena->holds(mapped->name, at)) return;
  const auto from = mapped->arena->bytes(at, item.offset, static_cast<std::uint32_t>(bytes));
  const auto offset = static_cast<std::size_t>(from.data() - mapped->arena->slots().data());
  const std::uint64_t first = std::min(bytes, pinned->part_bytes - offset % pinned->part_bytes);
  if (bytes - first > pinned->part_bytes) return;
  const auto address = reinterpret_cast<cuda::Address>(pinned->slots.data() + offset);
  runs_.push_back({address, bytes, staged_, first});
  wanted_.push_back({*mapped, &item, number});
  staged_ += bytes;
}

Task<std::vector<std::size_t>> ArenaPull::run() {
  std::vector<std::size_t> here;
  if (wanted_.empty()) co_return here;
  Task<Result<std::vector<Checksum>>> pulling = lane_.pull(slot_, runs_, verify_);
  const Result<std::vector<Checksum>> sums = co_await pulling;
  if (!sums) co_return here;
  std::vector<cuda::DevicePiece> pieces;
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < wanted_.size(); ++i) {
    const Wanted& wanted = wanted_[i];
    const bool same = !verify_ || (*sums)[i] == wanted.at.at->checksum;
    if (!same || !wanted.at.arena->still_holds(*wanted.at.at)) {
      pieces.push_back({0, runs_[i].bytes});
      continue;
    }
    wanted.item->into.for_each_piece([&pieces](const std::byte* data, std::size_t size) {
      pieces.push_back({reinterpret_cast<cuda::Address>(data), size});
    });
    bytes += runs_[i].bytes;
    here.push_back(wanted.number);
  }
  if (here.empty()) co_return here;
  Task<Result<>> spreading = lane_.spread(slot_, pieces);
  if (const Result<> spread = co_await spreading; !spread) here.clear();
  if (!here.empty()) bytes_ = bytes;
  co_return here;
}

}  // namespace membrain
