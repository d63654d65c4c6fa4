// Small files that are replaced as a whole.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "membrain/result.h"

namespace membrain {

/// What the last system call's errno says of a file: `out_of_capacity` for a full disk, `denied`
/// without the right to it, else `unavailable`.
[[nodiscard]] tl::unexpected<Error> file_failed(std::string_view what) noexcept;

/// Puts `bytes` in the place of the file `name` of a directory, for its owner alone. They are on
/// disk when it returns without an error; with one, whatever was there is as it was. What is called
/// `name`.new there is written over.
///
/// Cost  Waits for the disk twice.
Result<> replace_file(int directory, const std::string& name, std::span<const std::byte> bytes);

}  // namespace membrain
