#include "membrain/hash_chain.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/checksum.h"
#include "base/codec.h"
#include "base/mac.h"

namespace membrain {

namespace {

BlockHash digest(HashAlgorithm algorithm, std::span<const std::byte> bytes) noexcept {
  BlockHash hash;
  if (algorithm == HashAlgorithm::sha256) {
    const Digest made = sha256(bytes);
    std::copy(made.begin(), made.end(), hash.bytes.begin());
    hash.size = 32;
  } else {
    const Checksum made = checksum(bytes);
    std::memcpy(hash.bytes.data(), &made, sizeof made);
    hash.size = 16;
  }
  return hash;
}

std::string_view name_of(HashAlgorithm algorithm) noexcept {
  return algorithm == HashAlgorithm::sha256 ? "sha256" : "xxh3_128";
}

}  // namespace

HashChain::HashChain(HashAlgorithm algorithm, std::uint32_t block_tokens, std::string_view seed)
    : algorithm_(algorithm), block_tokens_(block_tokens) {
  check(block_tokens > 0, "a block holds at least one token");
  std::vector<std::byte> bytes;
  Writer out(bytes);
  out.put(std::string_view("membrain hash chain 1"));
  out.put(name_of(algorithm));
  out.put(block_tokens);
  out.raw(seed.data(), seed.size());
  root_ = digest(algorithm, bytes);
}

BlockHash HashChain::next(const BlockHash& parent, std::span<const std::uint32_t> tokens,
                          std::string_view extra_key) const {
  const BlockHash& before = parent.empty() ? root_ : parent;
  std::vector<std::byte> bytes;
  bytes.reserve(before.size + tokens.size_bytes() + extra_key.size() + 8);
  Writer out(bytes);
  out.raw(before.bytes.data(), before.size);
  out.put(static_cast<std::uint32_t>(tokens.size()));
  out.raw(tokens.data(), tokens.size_bytes());
  out.raw(extra_key.data(), extra_key.size());
  return digest(algorithm_, bytes);
}

std::vector<BlockHash> HashChain::hash(std::span<const std::uint32_t> tokens,
                                       std::span<const std::string> extra_keys) const {
  std::vector<BlockHash> hashes;
  hashes.reserve(tokens.size() / block_tokens_);
  BlockHash parent;
  for (std::size_t at = 0; at + block_tokens_ <= tokens.size(); at += block_tokens_) {
    const std::size_t index = hashes.size();
    const std::string_view extra =
        index < extra_keys.size() ? extra_keys[index] : std::string_view();
    parent = next(parent, tokens.subspan(at, block_tokens_), extra);
    hashes.push_back(parent);
  }
  return hashes;
}

std::string HashChain::fingerprint() const {
  std::string text(name_of(algorithm_));
  text += ':';
  for (std::size_t i = 0; i < 16; ++i) {
    fmt::format_to(std::back_inserter(text), "{:02x}", static_cast<unsigned>(root_.bytes[i]));
  }
  return text;
}

}  // namespace membrain
