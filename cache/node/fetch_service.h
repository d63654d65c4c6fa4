// Fetch service: validates what is asked for and sends it straight from the slots.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

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
class FetchService {
 public:
  static constexpr std::uint64_t kSoloBytes = 128 * 1024;
  static constexpr std::uint64_t kBatchBytes = 1024 * 1024;
  static constexpr std::uint64_t kWindowBytes = 64 * 1024 * 1024;
  static constexpr std::uint64_t kWindowMessages = 8;
  /// A send that hangs is ended so long after the deadline, by closing its peer: later than the
  /// reader would do it.
  static constexpr Duration kDrain = std::chrono::seconds(2);

  FetchService(DataLoop& data, FetchLimits limits);
  ~FetchService();

  void on_fetch(PeerId peer, OpId op, wire::Fetch request);
  void on_cancel(PeerId peer, OpId fetch);
  void on_lost(PeerId peer);
  /// New fetches are `unavailable`; what is unsent of the others is `cancelled`.
  void stop();
  [[nodiscard]] bool idle() const noexcept { return active_.empty(); }

 private:
  struct Active;
  /// What one Data message carries.
  struct Batch {
    wire::Data message;
    std::vector<Segment> segments;
    std::vector<wire::SlotRef> reads;  ///< open until the bytes have left
    std::uint64_t bytes = 0;
  };
  using Name = std::pair<PeerId, OpId>;

  Task<> serve(PeerId peer, OpId op, wire::Fetch request);
  Task<> send(Active& fetch, Batch batch, std::uint64_t credits, CreditWindow& window);
  Batch open(std::span<const wire::FetchItem> items);
  void answer(const Name& to, std::span<const wire::FetchItem> items, wire::ItemStatus status);
  void send_frame(const Name& to, const wire::Data& message);

  DataLoop& data_;
  FetchLimits limits_;
  std::map<Name, Active*> active_;
  bool stopped_ = false;
};

}  // namespace membrain
