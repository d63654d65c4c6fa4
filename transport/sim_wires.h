// What is under way in a simulated network: connections, messages, payloads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "base/clock.h"
#include "transport/completion.h"
#include "transport/fabric.h"

namespace membrain {

class SimFabric;

/// Names one use of a place in a SimSlab; as one number, it is the id of a Payload.
struct SimName {
  std::uint32_t index = 0;
  std::uint32_t generation = 0;
  [[nodiscard]] std::uint64_t packed() const noexcept {
    return (std::uint64_t{generation} << 32) | index;
  }
  static SimName unpacked(std::uint64_t packed) noexcept {
    return {static_cast<std::uint32_t>(packed), static_cast<std::uint32_t>(packed >> 32)};
  }
};

/// Places that are used again, with all the memory that they have grown: no allocation once warm.
/// References stay valid while others are added.
template <class Thing>
class SimSlab {
 public:
  /// A place whose thing is as it was left: the caller sets every field.
  SimName add() {
    if (free_.empty()) {
      free_.push_back(static_cast<std::uint32_t>(places_.size()));
      places_.emplace_back();
    }
    const std::uint32_t index = free_.back();
    free_.pop_back();
    return {index, places_[index].generation};
  }
  [[nodiscard]] Thing& operator[](std::uint32_t index) noexcept { return places_[index].thing; }
  /// Null if that use of the place has ended.
  [[nodiscard]] Thing* find(SimName name) noexcept {
    if (name.index >= places_.size()) return nullptr;
    Place& place = places_[name.index];
    return place.generation == name.generation ? &place.thing : nullptr;
  }
  void remove(std::uint32_t index) {
    ++places_[index].generation;
    free_.push_back(index);
  }
  [[nodiscard]] std::size_t count() const noexcept { return places_.size() - free_.size(); }
  /// Free places as well, as they were left.
  template <class Visitor>
  void for_each(Visitor visit) {
    for (Place& place : places_) visit(place.thing);
  }

 private:
  struct Place {
    std::uint32_t generation = 1;
    Thing thing;
  };
  std::deque<Place> places_;
  std::vector<std::uint32_t> free_;
};

/// One end of a connection, as a fabric numbers its peers.
struct SimEndName {
  std::uint32_t link = 0;
  std::uint8_t side = 0;
};

/// What waits for a fabric's next turn: a message, or the news that a peer is lost.
struct SimArrival {
  bool lost;
  std::uint32_t message;
  SimEndName end;
};

/// One end of a connection.
struct SimEnd {
  enum class State : std::uint8_t {
    open,
    closing,  ///< `close` waits for what is under way
    gone,     ///< quiet: every operation on it has ended
  };
  SimFabric* fabric = nullptr;
  std::uint32_t process = 0;
  PeerId peer;  ///< how the fabric at this end calls the other one
  State state = State::open;
  bool silenced = false;  ///< closed: `on_lost` is not called any more
  TimePoint last_arrival{};
  std::vector<Completion*> closers;
};

/// A connection. Never reused.
struct SimLink {
  std::array<SimEnd, 2> ends;
  bool up = true;  ///< false: broken or closed, though an end may not have noticed yet
  std::array<std::byte, 32> binding{};
  std::vector<std::uint32_t> transfers;  ///< not ended at both ends
};

/// A frame on its way.
struct SimMessage {
  std::vector<std::byte> frame;
  SimEndName to;
  SimName transfer;  ///< its payload
  std::uint64_t payload_bytes = 0;
};

/// A payload: in the sender's memory until it is received.
struct SimTransfer {
  std::uint32_t link = 0;
  std::uint8_t from = 0;  ///< the sender's side
  bool taken = false;     ///< received or discarded
  std::uint64_t bytes = 0;
  std::vector<Segment> source;
  std::vector<Segment> sink;
  Completion* sent = nullptr;      ///< null when finished
  Completion* received = nullptr;  ///< null before `receive` and when finished
};

/// A first contact under way.
struct SimConnect {
  SimFabric* fabric = nullptr;
  Address to;
  TimePoint deadline;
  TimePoint answer_at;
  Completion* settled = nullptr;
  PeerId peer;
};

/// Copies bytes [begin, end) of the concatenation of `source` to the same place in `sink`'s.
void copy_range(const std::vector<Segment>& source, const std::vector<Segment>& sink,
                std::uint64_t begin, std::uint64_t end) noexcept;
/// Flips one bit of the concatenation of `segments`.
void flip_bit(const std::vector<Segment>& segments, std::uint64_t bit) noexcept;

}  // namespace membrain
