// Arena door: where processes of this user on this host get the arena to map.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "base/clock.h"
#include "cache/node/arena.h"
#include "membrain/result.h"
#include "transport/descriptor.h"
#include "transport/loop.h"

namespace membrain {

/// Answers at a local socket: a caller of the same user that names this node and this life gets the
/// arena's file, opened for reading, or for writing if that is what it asks. Anybody else, and
/// whoever sends anything else, is hung up on.
///
/// Ownership  The arena outlives it.
/// Threads    The loop's.
/// Bounds     kMaxCallers who have not asked yet (the oldest is dropped for a newer one), kPatience
///            for each. A caller that has its answer is hung up on.
class ArenaDoor final : private FdHandler {
 public:
  static constexpr std::size_t kMaxCallers = 32;
  static constexpr Duration kPatience = std::chrono::seconds(2);

  ArenaDoor(Loop& loop, const Arena& arena);
  ~ArenaDoor();
  ArenaDoor(const ArenaDoor&) = delete;
  ArenaDoor& operator=(const ArenaDoor&) = delete;

  /// Opens under a name that nobody can guess. `unavailable`: an anonymous arena, or no socket.
  Result<> open();
  /// Where callers knock; empty while it is closed.
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  void close() noexcept;

 private:
  class Caller;
  void on_ready(std::uint32_t epoll_events) override;
  void admit(Descriptor socket);
  [[nodiscard]] bool answer(const Descriptor& socket) const;
  [[nodiscard]] Descriptor lend(WriterId& writer) const;
  void drop(std::uint64_t caller) noexcept;
  void expire();
  void set_alarm();

  Loop& loop_;
  const Arena& arena_;
  std::string name_;
  Descriptor listener_;
  std::uint64_t next_ = 1;
  std::map<std::uint64_t, std::unique_ptr<Caller>> callers_;  ///< oldest first
  Timer alarm_;
};

}  // namespace membrain
