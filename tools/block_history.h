// What happened to one block, as its users saw it, and whether Membrain may have behaved so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace membrain {

/// Nanoseconds on one monotonic clock that all who record share.
using HistoryTime = std::int64_t;
inline constexpr HistoryTime kNever = std::numeric_limits<HistoryTime>::max();

/// One operation on one block, from its call to its return.
struct BlockEvent {
  enum class Kind : std::uint8_t {
    store,        ///< acknowledged as stored
    maybe_store,  ///< failed, or was never answered: it may have come about, any time until `until`
    duplicate,    ///< a store that was told that the block is there
    hit,          ///< a lookup that found it
    miss,         ///< a lookup that did not
    lost,         ///< a fetch of what a lookup had pinned, told that it is not there any more
    opened,       ///< the namespace was opened, and is in `era`
    stale,        ///< a lookup was told that `era` is over
    cleared,      ///< `era` was ended; `next_era` began
    maybe_cleared  ///< a clear of `era` that failed, or was never answered
  };
  Kind kind = Kind::miss;
  HistoryTime call = 0;
  HistoryTime ret = 0;
  std::uint32_t era = 0;  ///< that the caller meant
  std::uint32_t next_era = 0;
  /// of `hit` and `lost`: when the lookup that pinned it was called, and until when the pin was
  /// held for sure; 0: it pinned nothing
  HistoryTime pinned_from = 0;
  HistoryTime pinned_until = 0;
  HistoryTime until = kNever;  ///< of `maybe_store` and `maybe_cleared`
  std::uint32_t client = 0;    ///< for people
};

[[nodiscard]] std::string_view to_string(BlockEvent::Kind kind) noexcept;

/// A time in which more may happen than at others.
struct Disturbance {
  HistoryTime begin = 0;
  HistoryTime end = kNever;
  bool ends_pins = false;  ///< what was pinned may be lost: a node died, bytes were spoiled
};

/// What the block lived with.
struct BlockRules {
  bool evicts = true;  ///< memory is short: what nobody pins may go at any time
  std::vector<Disturbance> disturbances;
};

struct BlockVerdict {
  enum class Kind : std::uint8_t { sound, anomaly, undecided } kind = Kind::sound;
  std::string what;  ///< of an anomaly: the event that cannot be, and those before it
};

/// Looks for an order of the events in which each takes effect between its call and its return, and
/// the block behaves as promised:
///
/// - it is found only after it was stored, in the same era;
/// - no era comes back, and nothing of an era that is over is found;
/// - it goes only when memory is short and no pin holds it, or in a disturbance;
/// - what has gone comes back only by a store, or in a disturbance;
/// - what a lookup has pinned can be fetched until it is released, unless pins were ended or the
///   era was.
///
/// Method  Wing and Gong's search, just in time (Lowe, "Testing for linearizability", 2017): all
///         states that the block can be in are kept, and an operation is ordered when it must be.
/// Cost    Microseconds an event. Bounded: `undecided` beyond kMaxPending operations at once or
///         kMaxStates states.
[[nodiscard]] BlockVerdict judge(std::vector<BlockEvent> events, const BlockRules& rules);

inline constexpr std::size_t kMaxPending = 64;
inline constexpr std::size_t kMaxStates = 2'000;

}  // namespace membrain
