#include "base/mac.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace membrain {

namespace {

constexpr std::size_t kBlockBytes = 64;  ///< SHA-256's block, for HMAC (RFC 2104)

unsigned char* raw(std::byte* bytes) noexcept {
  return reinterpret_cast<unsigned char*>(bytes);
}

/// SHA-256 over several spans.
Digest sha256_of(std::span<const std::span<const std::byte>> parts) noexcept {
  Digest digest{};
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  bool fine = context != nullptr && EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1;
  for (const auto part : parts) {
    fine = fine && EVP_DigestUpdate(context, part.data(), part.size()) == 1;
  }
  fine = fine && EVP_DigestFinal_ex(context, raw(digest.data()), nullptr) == 1;
  EVP_MD_CTX_free(context);
  check(fine, "OpenSSL could not compute SHA-256");
  return digest;
}

}  // namespace

std::span<const std::byte> as_bytes(std::string_view text) noexcept {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

Digest sha256(std::span<const std::byte> bytes) noexcept {
  const std::span<const std::byte> parts[] = {bytes};
  return sha256_of(parts);
}

Digest hmac_sha256(std::span<const std::byte> key,
                   std::span<const std::span<const std::byte>> parts) noexcept {
  constexpr std::size_t kMaxParts = 16;
  check(parts.size() <= kMaxParts, "hmac_sha256 takes at most 16 parts");
  std::array<std::byte, kBlockBytes> pad{};
  if (key.size() > kBlockBytes) {
    const Digest shorter = sha256(key);
    std::copy(shorter.begin(), shorter.end(), pad.begin());
  } else if (!key.empty()) {
    std::memcpy(pad.data(), key.data(), key.size());
  }
  for (std::byte& byte : pad) byte ^= std::byte{0x36};
  std::array<std::span<const std::byte>, kMaxParts + 1> inner;
  inner[0] = pad;
  std::copy(parts.begin(), parts.end(), inner.begin() + 1);
  const Digest inner_digest = sha256_of(std::span(inner).first(parts.size() + 1));
  for (std::byte& byte : pad) byte ^= std::byte{0x36} ^ std::byte{0x5c};
  const std::span<const std::byte> outer[] = {pad, inner_digest};
  const Digest digest = sha256_of(outer);
  OPENSSL_cleanse(pad.data(), pad.size());
  return digest;
}

MacTag truncate(const Digest& digest) noexcept {
  MacTag tag{};
  std::copy_n(digest.begin(), tag.size(), tag.begin());
  return tag;
}

bool equal_in_constant_time(std::span<const std::byte> a, std::span<const std::byte> b) noexcept {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void random_bytes(std::span<std::byte> out) noexcept {
  while (!out.empty()) {
    const ssize_t got = getrandom(out.data(), out.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    check(got > 0, "the system has no random bytes");
    out = out.subspan(static_cast<std::size_t>(got));
  }
}

std::uint64_t random_u64() noexcept {
  std::uint64_t value = 0;
  random_bytes(std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

}  // namespace membrain
