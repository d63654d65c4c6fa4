// The state store of a real server: one small file in a directory of its own.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/state_store.h"

namespace membrain {

/// Keeps the state in `<directory>/state`, replaced as a whole at every change, and holds a lock on
/// `<directory>/lock` for as long as it lives.
///
/// Threads  One. Every change waits for the disk.
class FileStateStore final : public StateStore {
 public:
  static constexpr std::size_t kMaxEras = 1 << 20;

  /// Makes the directory (mode 0700) if there is none. `unavailable` while another server holds it,
  /// `corrupt` for a state file that fails its check (it is left as it is), `denied` without the
  /// right to it, `out_of_capacity` on a full disk.
  static Result<std::unique_ptr<FileStateStore>> open(const std::string& directory);
  ~FileStateStore() override;
  FileStateStore(const FileStateStore&) = delete;
  FileStateStore& operator=(const FileStateStore&) = delete;

  Result<Epoch> begin_epoch() override;
  [[nodiscard]] Epoch epoch() const noexcept override { return epoch_; }
  [[nodiscard]] Era era_of(NamespaceId space) const noexcept override;
  Result<> set_era(NamespaceId space, Era era) override;

 private:
  explicit FileStateStore(std::string directory) : directory_(std::move(directory)) {}
  using Eras = std::unordered_map<NamespaceId, Era>;

  Result<> lock();
  Result<> load();
  Result<> parse(std::span<const std::byte> bytes);
  Result<> save(Epoch epoch, const Eras& eras);
  Result<> write_file(const std::string& path, std::span<const std::byte> bytes);

  std::string directory_;
  int directory_fd_ = -1;
  int lock_fd_ = -1;
  Epoch epoch_;
  Eras eras_;
};

}  // namespace membrain
