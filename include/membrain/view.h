// View: a block of a node on this host, where it lies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "membrain/result.h"

namespace membrain {

namespace detail {
struct ViewedPart;
}

/// Bytes of a block part in a node's own memory, to be read without a copy: `Client::fetch_view`.
///
/// What is read is provisional until `finish` has said that it was right: the node goes on writing
/// into its memory, and only the pin of the Match keeps this block in its place. Read (or let a
/// device read, to the end), then `finish`, and use what was read only if it says so.
///
/// Ownership  Keeps the node's memory mapped, even when node and client are gone; the block is kept
///            by the Match, which outlives `finish`.
/// Threads    Any one thread at a time.
/// Cost       `finish` looks at one line of memory; with `verify` it also hashes the whole part.
class View {
 public:
  View() noexcept;  ///< of nothing
  explicit View(const detail::ViewedPart& part) noexcept;
  View(const View&) noexcept;
  View(View&&) noexcept;
  View& operator=(const View&) noexcept;
  View& operator=(View&&) noexcept;
  ~View();

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, length_}; }

  /// Success: what was read since is the block that was looked up. `stale`: the slot or the node
  /// has begun another life meanwhile. `corrupt`: the bytes there now are not the block's: fetch
  /// it, so that the node is asked. May be called again.
  [[nodiscard]] Result<> finish() const noexcept;

 private:
  const std::byte* data_ = nullptr;
  std::size_t length_ = 0;
  std::shared_ptr<const void> arena_;
  std::uint64_t generation_ = 0;
  std::uint64_t sum_[2] = {0, 0};
  std::uint32_t slot_ = 0;
  std::uint32_t whole_ = 0;  ///< bytes of the part
  bool verify_ = false;
};

}  // namespace membrain
