// Memory in one piece, for payloads that are sent from or received into several.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace membrain {

/// A room, or none.
class JoinedRoom {
 public:
  JoinedRoom() = default;
  JoinedRoom(std::unique_ptr<std::byte[]> memory, std::size_t bytes) noexcept
      : memory_(std::move(memory)), bytes_(bytes) {}
  explicit operator bool() const noexcept { return memory_ != nullptr; }
  [[nodiscard]] std::byte* get() const noexcept { return memory_.get(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::size_t bytes_ = 0;
};

/// Some are kept for the next: fresh memory costs more than the copy. A few bytes get none (UCX
/// copies them anyway), and there is a bound to what is out at the same time.
///
/// Threads  One.
class JoinedRooms {
 public:
  static constexpr std::size_t kLeastBytes = 8192;
  static constexpr std::size_t kRoomBytes = 1 << 20;  ///< of those that are kept
  static constexpr std::size_t kMostKept = 32;
  static constexpr std::size_t kMostBytes = 256UL << 20;

  [[nodiscard]] JoinedRoom take(std::size_t bytes) {
    const std::size_t room = bytes > kRoomBytes ? bytes : kRoomBytes;
    if (bytes < kLeastBytes || out_ + room > kMostBytes) return {};
    out_ += room;
    if (room != kRoomBytes || kept_.empty()) {
      return {std::make_unique_for_overwrite<std::byte[]>(room), room};
    }
    JoinedRoom kept = std::move(kept_.back());
    kept_.pop_back();
    return kept;
  }
  void give(JoinedRoom room) {
    if (!room) return;
    out_ -= room.bytes();
    if (room.bytes() == kRoomBytes && kept_.size() < kMostKept) kept_.push_back(std::move(room));
  }

 private:
  std::vector<JoinedRoom> kept_;
  std::size_t out_ = 0;
};

}  // namespace membrain
