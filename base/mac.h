// Proofs: HMAC-SHA-256 and random bytes, by OpenSSL.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/ids.h"

namespace membrain {

using Digest = std::array<std::byte, 32>;  ///< a SHA-256 digest or a 256-bit key

[[nodiscard]] std::span<const std::byte> as_bytes(std::string_view text) noexcept;

[[nodiscard]] Digest sha256(std::span<const std::byte> bytes) noexcept;

/// HMAC-SHA-256 (RFC 2104) over the concatenation of `parts`.
[[nodiscard]] Digest hmac_sha256(std::span<const std::byte> key,
                                 std::span<const std::span<const std::byte>> parts) noexcept;

/// The first 16 bytes of a digest.
[[nodiscard]] MacTag truncate(const Digest& digest) noexcept;

/// Compares in a time that does not depend on where they differ.
[[nodiscard]] bool equal_in_constant_time(std::span<const std::byte> a,
                                          std::span<const std::byte> b) noexcept;

/// Fills with bytes from the system's generator; ends the process if it has none.
void random_bytes(std::span<std::byte> out) noexcept;
[[nodiscard]] std::uint64_t random_u64() noexcept;

}  // namespace membrain
