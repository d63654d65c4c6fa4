// The arena of a node as torture sees it, from outside: what its slots are, and bytes to spoil.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <span>
#include <string>

#include "protocol/arena_header.h"
#include "protocol/seal.h"
#include "tools/outcome.h"

namespace membrain {

struct SlotStates {
  std::uint64_t sealed = 0;
  std::uint64_t writing = 0;
  std::uint64_t lent = 0;

  [[nodiscard]] std::uint64_t in_use() const noexcept { return sealed + writing + lent; }
};

/// Ownership  Owns its mapping; the node need not live. Threads: one.
class TortureArena {
 public:
  static Outcome<TortureArena> open(const std::string& path);
  ~TortureArena();
  TortureArena(TortureArena&& other) noexcept;
  TortureArena& operator=(TortureArena&&) = delete;

  [[nodiscard]] SlotStates states() const noexcept;

  struct Spoiled {
    SealContent seal;
    bool undone = false;  ///< the slot was used again meanwhile: its bytes are as they were
  };
  /// Flips a bit of one sealed slot that `wanted` accepts; none if there is none.
  std::optional<Spoiled> spoil(std::mt19937_64& random,
                               const std::function<bool(const SealContent&)>& wanted);

 private:
  explicit TortureArena(std::span<std::byte> mapping) noexcept;

  std::span<std::byte> mapping_;
  std::span<Seal> seals_;
  std::span<std::byte> slots_;
};

}  // namespace membrain
