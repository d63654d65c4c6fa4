// What a lookup asks, and what it found.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace membrain {

/// One namespace as this client opened it. 0 is none.
struct OpenedNamespace {
  std::uint64_t id = 0;
  std::uint32_t era = 0;
  /// the same model is cached here under another hash seed: most likely a mistake
  bool other_seed = false;
};

struct LookupOptions {
  enum class Mode : std::uint8_t {
    probe,  ///< only ask: pins nothing, and nothing can be fetched from the answer
    pin,    ///< keep what was found until the Match is released
  };
  enum class Rule : std::uint8_t {
    prefix,  ///< the longest prefix of which every block is there
    window,  ///< the longest prefix whose last `window_blocks` blocks are there
    all,     ///< every block that is there
  };
  Mode mode = Mode::pin;
  Rule rule = Rule::prefix;
  std::uint32_t window_blocks = 0;
  std::uint16_t parts = 1;               ///< a hit only when parts 0 .. parts-1 all exist
  std::chrono::milliseconds timeout{0};  ///< 0: the client's default
};

/// What a lookup found. With `pin`, the blocks stay where they are until it is released or
/// destroyed.
///
/// Ownership  Move-only. It may outlive operations on it but not the client.
/// Threads    One thread at a time.
class Match {
 public:
  Match() noexcept;  ///< of nothing
  Match(Match&&) noexcept;
  Match& operator=(Match&&) noexcept;
  ~Match();

  [[nodiscard]] std::size_t block_count() const noexcept;    ///< blocks that were asked for
  [[nodiscard]] std::size_t prefix_blocks() const noexcept;  ///< by the lookup's rule
  [[nodiscard]] bool has(std::size_t block) const noexcept;  ///< all asked parts of it exist
  /// Its shard said so. False behind the end of a prefix, where nobody was asked, and where a shard
  /// is away while others answer: such a block was not found, and may be there.
  [[nodiscard]] bool answered(std::size_t block) const noexcept;
  /// Bytes of a found block's part; 0 if it was not found (or only probed).
  [[nodiscard]] std::size_t part_bytes(std::size_t block, std::uint16_t part = 0) const noexcept;
  [[nodiscard]] bool pinned() const noexcept;

  static constexpr std::size_t kMaxGrantBytes = std::size_t{8} << 20;  ///< of `Client::grant`

  /// Gives the pins back; returns at once, the server is told in the background. Idempotent.
  void release() noexcept;

  struct State;
  explicit Match(std::shared_ptr<State> state) noexcept;
  [[nodiscard]] const std::shared_ptr<State>& state() const noexcept { return state_; }

 private:
  std::shared_ptr<State> state_;
};

}  // namespace membrain
