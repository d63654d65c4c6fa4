// Seeds: valid inputs of every target, from which fuzzing begins.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace membrain::fuzz {

/// Writes FOLDER/TARGET/NAME.
class Seeds {
 public:
  explicit Seeds(std::filesystem::path folder) : folder_(std::move(folder)) {}
  void put(std::string_view target, const std::string& name, std::span<const std::byte> bytes);
  void put(std::string_view target, const std::string& name, std::string_view text);
  [[nodiscard]] std::size_t count() const noexcept { return count_; }

 private:
  std::filesystem::path folder_;
  std::size_t count_ = 0;
};

void seed_messages(Seeds& seeds);  ///< messages, frames, door_packets, handshake
void seed_memory(Seeds& seeds);    ///< seals, arena_file, mapped_arena
void seed_files(Seeds& seeds);     ///< grants, state_file
void seed_services(Seeds& seeds);  ///< node_service, shard_service
void seed_texts(Seeds& seeds);     ///< what people and other programs write

}  // namespace membrain::fuzz
