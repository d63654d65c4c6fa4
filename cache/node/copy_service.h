// Copy service: fetches blocks from other nodes, because the shard wants replicas of them here.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cache/node/announcers.h"
#include "cache/node/store_service.h"
#include "protocol/copy_messages.h"
#include "transport/fabric.h"
#include "transport/signal.h"

namespace membrain {

/// One coroutine for each order: connects to the source (once, however many orders name it), asks
/// for the blocks by an ordinary Fetch, receives them into free slots of its own choice, compares
/// with the checksum that the shard named, seals and publishes. Each copy ends once, when no byte
/// can land any more, and is told to the shard then.
///
/// A copy takes only room that stores can spare: else it is `full` at once, and nothing has to go.
///
/// Threads  The data loop's.
class CopyService {
 public:
  static constexpr std::size_t kMostCopies = 256;   ///< under way
  static constexpr std::size_t kRemembered = 1024;  ///< that have ended: not to be made again
  static constexpr Duration kConnectTime = std::chrono::seconds(2);
  static constexpr Duration kResend = std::chrono::seconds(1);     ///< a Fetch that nothing came of
  static constexpr Duration kPatience = std::chrono::seconds(10);  ///< while nothing comes
  static constexpr Duration kDrain = std::chrono::seconds(1);      ///< of what is being received

  CopyService(DataLoop& data, Announcers& announcers);
  ~CopyService();

  void on_order(LinkId link, wire::CopyBlocks order);
  /// False if it does not decode.
  [[nodiscard]] bool on_data(PeerId peer, const wire::Frame& frame, Payload& payload);
  /// An answer that is no Data: the Fetch was refused, or a suspicion noted.
  void on_answer(PeerId peer, const wire::Frame& frame);
  /// The shard's verdict on a slot.
  void settle(const wire::SlotRef& at, wire::ItemStatus verdict);
  void on_lost(PeerId peer);
  /// New orders are dropped; what has not come yet is given up.
  void stop();
  [[nodiscard]] bool idle() const noexcept { return runs_.empty(); }

 private:
  using Name = std::pair<std::uint64_t, CopyId>;  ///< the link's number, and its shard's copy
  enum class Stage : std::uint8_t { waiting, receiving, sealed, ended };
  struct Item {
    wire::CopyItem order;
    std::optional<SlotClaim> claim;  ///< until it is sealed, or given back
    Stage stage = Stage::waiting;
    wire::SlotRef at;  ///< once sealed
  };
  struct Run;
  struct Source {
    PeerId peer;
    bool connecting = false;
  };
  struct Sealed {
    Generation generation;
    Run* run = nullptr;
    std::size_t item = 0;
  };

  Task<> serve(LinkId link, wire::CopyBlocks order);
  bool place(Run& run);
  Task<> reach(Run& run);
  void ask(Run& run);
  void receive(Run& run, const wire::Data& message, Payload payload);
  Task<> receive(Run& run, std::vector<std::size_t> items, Payload payload);
  void landed(Run& run, std::size_t index, std::vector<wire::SlotEntry>& sealed);
  void suspect(const Run& run, const wire::SlotRef& at);
  void give_up(Run& run, bool late);
  void end(Run& run, std::size_t index, wire::ItemStatus status);
  void tell(Run& run);
  void remember(const Name& copy);
  void wake_all();
  [[nodiscard]] Run* find(PeerId peer, OpId op) const noexcept;
  [[nodiscard]] bool known(LinkId link, CopyId copy) const;

  DataLoop& data_;
  Announcers& announcers_;
  std::vector<Run*> runs_;
  std::size_t copies_ = 0;                            ///< under way, in all runs
  std::map<std::string, Source> sources_;             ///< by address
  std::unordered_map<std::uint32_t, Sealed> sealed_;  ///< by slot: those that wait for a verdict
  std::set<Name> ended_;
  std::deque<Name> ended_order_;
  std::vector<std::byte> frame_;
  std::uint64_t last_op_ = 0;
  bool stopped_ = false;
};

}  // namespace membrain
