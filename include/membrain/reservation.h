// Reservation: room for a block in the memory of a node on this host, to be written in place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "membrain/block.h"
#include "membrain/result.h"

namespace membrain {

/// One block to make room for: `Client::reserve`.
struct ReserveItem {
  BlockHash hash;
  BlockHash parent;         ///< hash of the block before it; empty for the first
  std::uint32_t depth = 0;  ///< blocks before it in the prompt
  std::uint16_t part = 0;
  std::uint8_t priority = 0;  ///< higher stays longer
  std::uint32_t size = 0;     ///< bytes
};

/// Room for one block, or why there is none. Write all of `bytes` (or let a device write, to the
/// end), then hand it to `Client::seal`.
///
/// Ownership  Move-only. Destroying it gives the room back; nothing may write into `bytes` after
///            that, nor after `seal` was called: the room may be another block's. It keeps the
///            node's memory mapped, even when node and client are gone.
/// Threads    One thread at a time; any thread may destroy it.
/// Errors     At its deadline, and when the node is lost, the reservation ends: `bytes` may still
///            be written to, but `seal` says `stale` (store the block then).
class Reservation {
 public:
  Reservation() noexcept;  ///< of nothing
  Reservation(Reservation&&) noexcept;
  Reservation& operator=(Reservation&&) noexcept;
  ~Reservation();

  /// There is room, and it was not sealed or given back.
  [[nodiscard]] bool granted() const noexcept { return !bytes_.empty(); }
  /// There is none because the block is there already, which is as good as a store.
  [[nodiscard]] bool duplicate() const noexcept { return duplicate_; }
  /// Why there is none otherwise: `out_of_capacity`, `unavailable`, `denied`, `invalid_argument`.
  [[nodiscard]] Errc why() const noexcept { return why_; }
  /// As long as the block; empty if there is no room.
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }

  struct State;
  /// What `Client::reserve` makes.
  explicit Reservation(std::unique_ptr<State> state) noexcept;
  static Reservation refused(bool duplicate, Errc why) noexcept;
  [[nodiscard]] std::unique_ptr<State> take() noexcept;

 private:
  std::unique_ptr<State> state_;
  std::span<std::byte> bytes_;
  bool duplicate_ = false;
  Errc why_ = Errc::unavailable;
};

}  // namespace membrain
