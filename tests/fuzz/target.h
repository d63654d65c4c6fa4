// What fuzz targets share: their bytes, a folder for what must be a file, seals put right.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "base/check.h"

namespace membrain::fuzz {

/// What every target defines: one input, of any size. Ends the process when a promise is broken.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

inline std::span<const std::byte> bytes_of(const std::uint8_t* data, std::size_t size) noexcept {
  return std::as_bytes(std::span(data, size));
}

inline std::string_view text_of(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A folder of this process, gone at its end.
class Folder {
 public:
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "membrain-fuzz-XXXXXX");
    check(::mkdtemp(pattern.data()) != nullptr, "there is no folder for temporary files");
    path_ = pattern;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// Writes a file into it; its path.
  std::string put(const std::string& name, std::span<const std::byte> bytes) const {
    const std::string path = path_ + "/" + name;
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    check(file.good(), "a file cannot be written");
    return path;
  }

 private:
  std::string path_;
};

/// Memory of exactly this size that begins on a page, all zeros: what lies behind it is not ours.
class PageMemory {
 public:
  explicit PageMemory(std::size_t size) : size_(size) {
    check(::posix_memalign(&memory_, 4096, size) == 0, "no memory");
    std::memset(memory_, 0, size);
  }
  ~PageMemory() { std::free(memory_); }
  PageMemory(const PageMemory&) = delete;
  PageMemory& operator=(const PageMemory&) = delete;

  [[nodiscard]] std::span<std::byte> bytes() const noexcept {
    return {static_cast<std::byte*>(memory_), size_};
  }

 private:
  void* memory_ = nullptr;
  std::size_t size_;
};

}  // namespace membrain::fuzz
