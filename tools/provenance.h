// Which engine a block came from: did engines really share?
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

namespace membrain {

/// Remembers who stored what and who hit what. Reports of two engines may come in any order, so
/// hits are only judged at the end.
class Provenance {
 public:
  void stored(std::size_t engine, std::span<const std::uint64_t> hash_ids);
  void hit(std::size_t engine, std::span<const std::uint64_t> hash_ids);

  /// Hits on blocks that only other engines have stored.
  [[nodiscard]] std::uint64_t hits_across() const;

 private:
  static constexpr std::size_t kSeveral = static_cast<std::size_t>(-1);
  std::unordered_map<std::uint64_t, std::size_t> owner_;  ///< by block
  std::vector<std::pair<std::uint64_t, std::size_t>> hits_;
};

}  // namespace membrain
