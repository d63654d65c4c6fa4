// Fetch service: validates what is asked for and sends it straight from the slots.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "base/pool.h"
#include "cache/node/store_service.h"
#include "protocol/messages.h"
#include "transport/completion.h"
#include "transport/fabric.h"

namespace membrain {

struct FetchLimits {
  std::size_t max_fetches = 1024;               ///< under way
  Duration longest = std::chrono::seconds(60);  ///< deadline of one Fetch
};

/// One coroutine per Fetch. Each item is validated when its turn to be sent has come, and its slot
/// is held until the bytes have left. Items of kSoloBytes and more travel alone, smaller ones
/// together; at most kWindowMessages messages (or kWindowBytes) of a Fetch are in flight.
///
/// Threads  The data loop's.
/// Cost     Allocates nothing for an item or a message, once its pools are warm.
class FetchService {
 public:
  static constexpr std::uint64_t kSoloBytes = 128 * 1024;
  /// With its frame a message fits one TCP segment (512 KiB): UCX puts longer ones together in
  /// memory that it allocates for each. And sixteen blocks of 64 KiB go in more than one message,
  /// so that one is placed while the next is sent: one call for them reached 0.9 to 1.1 of the raw
  /// loop with about half a mebibyte, 0.65 to 0.91 with one, 0.82 with a quarter, 0.74 each alone.
  static constexpr std::uint64_t kBatchBytes = 480 * 1024;
  static constexpr std::uint64_t kWindowBytes = 64 * 1024 * 1024;
  static constexpr std::uint64_t kWindowMessages = 8;
  /// A send that hangs is ended so long after the deadline, by closing its peer: later than the
  /// reader would do it.
  static constexpr Duration kDrain = std::chrono::seconds(2);

  /// `doubt` is told of what is corrupt, or looks like it: it may be asked for again and again.
  FetchService(DataLoop& data, FetchLimits limits, std::function<void(const wire::SlotRef&)> doubt);
  ~FetchService();

  /// False if the body does not decode.
  [[nodiscard]] bool on_fetch(PeerId peer, OpId op, std::span<const std::byte> body);
  void on_cancel(PeerId peer, OpId fetch);
  void on_lost(PeerId peer);
  /// New fetches are `unavailable`; what is unsent of the others is `cancelled`.
  void stop();
  [[nodiscard]] bool idle() const noexcept { return active_.empty(); }

 private:
  struct Active;
  /// What one Data message carries, with room for the most that it can.
  struct Batch {
    Batch();
    wire::Data message;
    std::vector<std::byte> frame;
    std::vector<Segment> segments;
    std::vector<wire::SlotRef> reads;  ///< open until the bytes have left
    std::uint64_t bytes = 0;
  };
  using Batches = Pool<Batch>;
  using Requests = Pool<wire::Fetch>;
  using Name = std::pair<PeerId, OpId>;
  static constexpr std::size_t kKeptBatches = 64;
  static constexpr std::size_t kKeptRequests = 64;

  Task<> serve(Name name, Requests::Lease request);
  Task<> send(Active& fetch, Batches::Lease batch, std::uint64_t credits, CreditWindow& window);
  Batches::Lease open(std::span<const wire::FetchItem> items);
  [[nodiscard]] Active* find(const Name& name) const noexcept;
  void answer(const Name& to, std::span<const wire::FetchItem> items, wire::ItemStatus status);
  void send_frame(const Name& to, const wire::Data& message);

  DataLoop& data_;
  FetchLimits limits_;
  std::function<void(const wire::SlotRef&)> doubt_;
  std::vector<Active*> active_;  ///< at most FetchLimits::max_fetches: looked through
  Batches batches_{kKeptBatches};
  Requests requests_{kKeptRequests};
  std::vector<std::byte> frame_;  ///< of answers without bytes
  bool stopped_ = false;
};

}  // namespace membrain
