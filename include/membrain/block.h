// The vocabulary of blocks: what names them, where they may be exchanged, and the memory they sit
// in.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "membrain/result.h"

namespace membrain {

/// An engine's own name of a block: the hash of its tokens and of all before them. 1 to 32 bytes;
/// unused bytes are zero, so equality is plain.
struct BlockHash {
  static constexpr std::size_t kMaxBytes = 32;

  std::array<std::byte, kMaxBytes> bytes{};
  std::uint8_t size = 0;  ///< bytes in use; 0 means "no hash" (the parent of a first block)

  /// Copies 1 to 32 bytes. `invalid_argument` for any other length.
  static Result<BlockHash> from(std::span<const std::byte> raw) noexcept {
    if (raw.empty() || raw.size() > kMaxBytes) {
      return fail(Errc::invalid_argument, "a block hash has 1 to 32 bytes");
    }
    BlockHash hash;
    std::memcpy(hash.bytes.data(), raw.data(), raw.size());
    hash.size = static_cast<std::uint8_t>(raw.size());
    return hash;
  }
  [[nodiscard]] std::span<const std::byte> view() const noexcept { return {bytes.data(), size}; }
  [[nodiscard]] bool empty() const noexcept { return size == 0; }
  bool operator==(const BlockHash&) const = default;
};

/// Everything that must agree before one engine may read another's bytes. Two engines that differ
/// in any field live in different namespaces and never see each other's blocks.
struct Namespace {
  std::string model;                  ///< model id, e.g. "meta-llama/Llama-3-8B"
  std::string revision;               ///< revision of the model id, e.g. a commit
  std::string weights_version;        ///< changes when weights are updated in place (RLHF)
  std::string kv_dtype;               ///< e.g. "bfloat16", "fp8_e4m3"
  std::uint32_t block_tokens = 16;    ///< tokens per block
  std::string layout;                 ///< fingerprint of the KV layout: shapes, strides, order
  std::uint32_t part_count = 1;       ///< head shards x pipeline stages a block is cut into
  std::uint32_t kv_group = 0;         ///< index of the KV group of a hybrid model
  std::string hash_algorithm;         ///< e.g. "sha256_cbor"
  std::string hash_seed_fingerprint;  ///< of the hash chain's first value (vLLM: NONE_HASH)
  std::string tenant = "default";     ///< who may read it

  bool operator==(const Namespace&) const = default;
};

/// A run of memory that bytes are moved into. The caller owns it and keeps it until the operation
/// is reported.
struct Piece {
  void* data = nullptr;
  std::size_t size = 0;  ///< bytes
};

/// A run of memory that bytes are moved from. The caller owns it and leaves it unchanged until the
/// operation is reported.
struct ConstPiece {
  const void* data = nullptr;
  std::size_t size = 0;  ///< bytes
};

/// Which memory the pieces of a transfer lie in: the host's, or one GPU's.
struct PieceMemory {
  static constexpr int kHost = -1;
  int device = kHost;  ///< one of `ClientConfig::devices`
  /// Of a GPU: nothing touches the pieces before this event (a recorded cudaEvent_t or CUevent) has
  /// come; null: at once. It exists, and is not recorded again, until the transfer is reported.
  void* after = nullptr;
};

}  // namespace membrain
