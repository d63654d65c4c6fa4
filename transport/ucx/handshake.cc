#include "transport/ucx/handshake.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/checksum.h"
#include "base/codec.h"

namespace membrain {

namespace {

std::size_t index_of(Handshake::Role role) noexcept {
  return role == Handshake::Role::caller ? 0 : 1;
}

Handshake::Role other(Handshake::Role role) noexcept {
  return role == Handshake::Role::caller ? Handshake::Role::answerer : Handshake::Role::caller;
}

template <class T>
std::span<const std::byte> bytes_of(const T& value) noexcept {
  return std::as_bytes(std::span(&value, 1));
}

}  // namespace

Handshake::Handshake(Role role, std::string_view secret, Card own)
    : role_(role), secret_(secret), own_(std::move(own)) {
  random_bytes(nonces_[index_of(role_)]);
}

Result<> Handshake::broken(Errc code, std::string_view why) noexcept {
  stage_ = Stage::broken;
  input_.clear();
  return fail(code, why);
}

Digest Handshake::proof_of(Role prover, const Card& card) const noexcept {
  const std::array parts = {as_bytes("membrain contact"),
                            as_bytes(prover == Role::caller ? "C" : "A"),
                            std::span<const std::byte>(nonces_[0]),
                            std::span<const std::byte>(nonces_[1]),
                            bytes_of(card.token),
                            bytes_of(card.fabric),
                            std::span<const std::byte>(card.address)};
  return hmac_sha256(as_bytes(secret_), parts);
}

Digest Handshake::binding() const noexcept {
  const std::array parts = {as_bytes("binding"), std::span<const std::byte>(nonces_[0]),
                            std::span<const std::byte>(nonces_[1])};
  return hmac_sha256(as_bytes(secret_), parts);
}

void Handshake::put_frame(Kind kind, std::span<const std::byte> body,
                          std::vector<std::byte>& out) const {
  const std::size_t start = out.size();
  Writer writer(out);
  writer.put(kMagic);
  writer.put(kind);
  writer.put(std::uint16_t{0});
  writer.put(static_cast<std::uint32_t>(body.size()));
  writer.raw(body.data(), body.size());
  writer.put(checksum(std::span(out).subspan(start)).low);
}

void Handshake::put_card(Kind kind, std::vector<std::byte>& out) const {
  std::vector<std::byte> body;
  Writer writer(body);
  writer.put(own_.token);
  writer.put(own_.fabric);
  writer.put(proof_of(role_, own_));
  writer.put(static_cast<std::uint32_t>(own_.address.size()));
  writer.raw(own_.address.data(), own_.address.size());
  put_frame(kind, body, out);
}

void Handshake::begin(std::vector<std::byte>& out) {
  std::vector<std::byte> body;
  Writer writer(body);
  writer.put(kVersion);
  writer.put(nonces_[0]);
  put_frame(Kind::greeting, body, out);
}

Result<> Handshake::take(std::span<const std::byte> in, std::vector<std::byte>& out) {
  if (stage_ == Stage::broken) return fail(Errc::corrupt, "bytes after a broken first contact");
  input_.insert(input_.end(), in.begin(), in.end());
  std::size_t used = 0;
  for (;;) {
    const std::span<const std::byte> rest = std::span(input_).subspan(used);
    if (rest.empty()) break;
    if (stage_ == Stage::agreed) return broken(Errc::corrupt, "bytes after first contact");
    Reader reader(rest);
    std::uint32_t magic = kMagic;
    // Junk is told from the first bytes on: nobody waits for the rest of it.
    const std::size_t known = std::min(rest.size(), sizeof magic);
    if (std::memcmp(rest.data(), &magic, known) != 0) {
      return broken(Errc::corrupt, "no first contact of ours");
    }
    if (rest.size() < kHeadBytes) break;
    std::uint16_t kind = 0;
    std::uint16_t zero = 0;
    std::uint32_t size = 0;
    reader.get(magic), reader.get(kind), reader.get(zero), reader.get(size);
    if (size > kMaxBodyBytes || zero != 0)
      return broken(Errc::corrupt, "first contact: bad length");
    const std::size_t whole = kHeadBytes + size + sizeof(std::uint64_t);
    if (rest.size() < whole) break;
    std::uint64_t sum = 0;
    Reader(rest.subspan(kHeadBytes + size)).get(sum);
    if (sum != checksum(rest.first(kHeadBytes + size)).low) {
      return broken(Errc::corrupt, "first contact: bad checksum");
    }
    const Result<> taken = take_frame(static_cast<Kind>(kind), rest.subspan(kHeadBytes, size), out);
    if (!taken) return taken;
    used += whole;
  }
  input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(used));
  return {};
}

Result<> Handshake::take_frame(Kind kind, std::span<const std::byte> body,
                               std::vector<std::byte>& out) {
  const bool caller = role_ == Role::caller;
  if (stage_ == Stage::hello && kind == (caller ? Kind::challenge : Kind::greeting)) {
    return take_nonce(kind, body, out);
  }
  if (stage_ == Stage::proof && kind == (caller ? Kind::acceptance : Kind::introduction)) {
    return take_card(body, out);
  }
  if (stage_ == Stage::heard && kind == Kind::ready && body.empty()) {
    stage_ = Stage::agreed;
    return {};
  }
  if (caller && kind == Kind::refusal) {
    return broken(Errc::denied, "the other end did not accept our proof");
  }
  return broken(Errc::corrupt, "first contact: a message out of turn");
}

Result<> Handshake::take_nonce(Kind kind, std::span<const std::byte> body,
                               std::vector<std::byte>& out) {
  Reader reader(body);
  std::uint16_t version = kVersion;
  if (kind == Kind::greeting) reader.get(version);
  reader.get(nonces_[index_of(other(role_))]);
  if (!reader.ok() || reader.left() != 0 || version != kVersion) {
    return broken(Errc::corrupt, "first contact: another version");
  }
  stage_ = Stage::proof;
  if (role_ == Role::caller) {
    put_card(Kind::introduction, out);
  } else {
    put_frame(Kind::challenge, nonces_[1], out);
  }
  return {};
}

Result<> Handshake::take_card(std::span<const std::byte> body, std::vector<std::byte>& out) {
  Reader reader(body);
  Card card;
  Digest proof{};
  reader.get(card.token), reader.get(card.fabric), reader.get(proof);
  card.address.resize(reader.count(Card::kMaxAddressBytes, 1));
  reader.raw(card.address.data(), card.address.size());
  if (!reader.ok() || reader.left() != 0 || card.address.empty() || card.token == 0) {
    return broken(Errc::corrupt, "first contact: a card that does not fit");
  }
  if (!equal_in_constant_time(proof, proof_of(other(role_), card))) {
    if (role_ == Role::answerer) put_frame(Kind::refusal, {}, out);
    return broken(Errc::denied, "the other end does not know the secret");
  }
  peer_ = std::move(card);
  if (role_ == Role::caller) {
    stage_ = Stage::agreed;
    put_frame(Kind::ready, {}, out);
  } else {
    stage_ = Stage::heard;
    put_card(Kind::acceptance, out);
  }
  return {};
}

}  // namespace membrain
