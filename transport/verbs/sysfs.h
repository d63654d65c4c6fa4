// Small files that the kernel writes, read as input from a stranger: a container may show anything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace membrain::verbs {

inline constexpr std::size_t kMaxAttributeBytes = 4096;  ///< a page, as sysfs writes them
inline constexpr std::size_t kMaxEntries = 4096;         ///< of a folder

/// The file's text without white space at the end; nothing if it cannot be read, is no plain file,
/// or is longer than kMaxAttributeBytes. Never blocks on a pipe.
[[nodiscard]] std::optional<std::string> read_attribute(const std::filesystem::path& file);
/// The whole number at the beginning of a file; `otherwise` if there is none.
[[nodiscard]] std::int64_t read_number(const std::filesystem::path& file, std::int64_t otherwise);
/// A number as sysfs writes it: decimal, or hexadecimal after 0x.
[[nodiscard]] std::optional<std::int64_t> number_in(std::string_view text);
/// Names in a folder, sorted as people count ("mlx5_2" before "mlx5_10"); none if it cannot be
/// read; at most kMaxEntries.
[[nodiscard]] std::vector<std::string> entries_of(const std::filesystem::path& folder);

}  // namespace membrain::verbs
