// What torture's engines tell: one JSON object per line and operation.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/block_history.h"
#include "tools/outcome.h"

namespace membrain {

/// One operation of an engine, and what became of each block.
struct TortureRecord {
  enum class Op : std::uint8_t {
    connected,
    open,
    lookup,
    fetch,
    reserve,
    store,
    release,
    clear,
    resting
  };
  /// Of one block.
  enum Item : char {
    good = '+',       ///< found, fetched, stored
    duplicate = '=',  ///< stored: it was there
    missing = '-',    ///< looked up, and not there
    lost = '!',       ///< fetched, and not there any more
    corrupt = 'c',    ///< fetched, and its check failed
    other = '?',      ///< not done, for another reason
  };
  static constexpr std::string_view kOk = "ok";
  /// It is under way. Told of what changes something, because its engine may be killed meanwhile.
  static constexpr std::string_view kBegun = "begun";

  Op op = Op::lookup;
  HistoryTime call = 0;
  HistoryTime ret = 0;
  std::uint32_t space = 0;
  std::uint32_t era = 0;  ///< of the namespace as the engine knew it
  std::uint32_t next_era = 0;
  std::uint64_t match = 0;   ///< the engine's number of it, 0: none
  std::uint64_t pinned = 0;  ///< so many of the blocks, from the first on
  std::string outcome{kOk};  ///< of the whole, else an error's name
  std::vector<std::uint64_t> blocks;
  std::string items;  ///< a letter for each block
  std::uint64_t bytes = 0;
  std::uint64_t wrong_bytes = 0;

  [[nodiscard]] bool ok() const noexcept { return outcome == kOk; }
  bool operator==(const TortureRecord&) const = default;
};

/// "lookup", as messages name it.
[[nodiscard]] std::string_view to_string(TortureRecord::Op op) noexcept;
[[nodiscard]] std::string to_line(const TortureRecord& record);
[[nodiscard]] Outcome<TortureRecord> torture_record_from_line(std::string_view line);

/// What an engine is told: give back what you hold, do no more, and say that you rest.
inline constexpr std::string_view kTortureRest = "rest";

}  // namespace membrain
