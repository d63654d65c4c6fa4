// The state of a server without etcd: one small file in a directory of its own.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "membrain/result.h"
#include "server/cluster/coordination.h"
#include "transport/descriptor.h"

namespace membrain {

/// Keeps what outlives the process in `<directory>/state`, replaced as a whole at every change, and
/// holds a lock on `<directory>/lock` for as long as it lives.
///
/// Threads  One. Every change waits for the disk.
class StateFile {
 public:
  static constexpr std::size_t kMaxEntries = 1 << 18;
  static constexpr std::size_t kMaxTextBytes = 4096;  ///< of a key or a value

  /// Makes the directory (mode 0700) if there is none. `unavailable` while another server holds it,
  /// `corrupt` for a state file that fails its check (it is left as it is), `denied` without the
  /// right to it, `out_of_capacity` on a full disk.
  static Result<std::unique_ptr<StateFile>> open(const std::string& directory);
  StateFile(const StateFile&) = delete;
  StateFile& operator=(const StateFile&) = delete;

  /// What was there when it was opened. Once.
  [[nodiscard]] CoordinationView take_loaded() noexcept { return std::move(loaded_); }
  /// Is on disk when it returns without an error; with one, the file is as it was:
  /// `invalid_argument` for a longer key or value, `out_of_capacity` for too many.
  Result<> save(const CoordinationView& view);

 private:
  StateFile() = default;

  Result<> lock();
  Result<> load();
  Result<> parse(std::span<const std::byte> bytes);

  CoordinationView loaded_;
  Descriptor directory_;
  Descriptor lock_;
};

}  // namespace membrain
