// NVIDIA's library for collectives, if this machine has one.
#pragma once

#include <memory>
#include <string>

#include "membrain/result.h"
#include "transport/nccl/api.h"

namespace membrain::nccl {

/// The library, loaded. It stays loaded until the process ends, as its own threads expect.
///
/// Threads  Any.
class Library {
 public:
  /// `unavailable` where there is none, or one older than 2.20.
  static Result<std::shared_ptr<const Library>> load(const std::string& library = "libnccl.so.2");

  [[nodiscard]] const Api& api() const noexcept { return api_; }
  [[nodiscard]] int version() const noexcept { return version_; }  ///< 22203 is 2.22.3
  /// NCCL's own words for a status. Static storage.
  [[nodiscard]] std::string_view text(Status status) const noexcept;
  /// A new one. Its first call in a process looks for networks: up to a second.
  [[nodiscard]] Result<UniqueId> make_id() const;

 private:
  Library() = default;

  Api api_{};
  int version_ = 0;
};

}  // namespace membrain::nccl
