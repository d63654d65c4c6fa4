// First contact as a pure state machine: bytes in, bytes out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mac.h"
#include "membrain/result.h"

namespace membrain {

/// What one end tells the other about itself, under proof.
struct Card {
  static constexpr std::size_t kMaxAddressBytes = 4096;

  std::uint64_t token = 0;   ///< what the other end stamps on every message to this one
  std::uint64_t fabric = 0;  ///< names the fabric: connections of one pair of fabrics share it
  std::vector<std::byte> address;  ///< UCX worker address
};

/// One side of a first contact. Both sides prove that they know the secret before a worker address
/// is believed: a forged or damaged one ends the process inside UCX.
///
///     caller                                   answerer
///     greeting {version, nonce}        -->
///                                      <--     challenge {nonce}
///     introduction {card, proof}       -->     (heard: the caller is proven)
///                                      <--     acceptance {card, proof}, or refusal {reason}
///     ready {}                         -->     (agreed, on either side)
///
/// Every frame: u32 magic, u16 kind, u16 zero, u32 body bytes, body, u64 checksum (the low half of
/// XXH3-128 of all before). A proof is HMAC-SHA-256 with the secret over "membrain contact", the
/// role's letter, both nonces, token, fabric and worker address.
///
/// Threads  One at a time. Cost: a few hashes; input is bounded by one frame of kMaxFrameBytes.
class Handshake {
 public:
  static constexpr std::uint32_t kMagic = 0x3143424d;  ///< "MBC1" in memory order
  static constexpr std::uint16_t kVersion = 2;
  static constexpr std::size_t kHeadBytes = 12;
  static constexpr std::size_t kMaxBodyBytes = 8192;
  static constexpr std::size_t kMaxFrameBytes = kHeadBytes + kMaxBodyBytes + 8;

  enum class Role : std::uint8_t { caller, answerer };
  enum class Stage : std::uint8_t {
    hello,   ///< waits for greeting or challenge
    proof,   ///< waits for introduction or acceptance
    heard,   ///< answerer only: the caller is proven, its `ready` is awaited
    agreed,  ///< both sides have what they need
    broken,  ///< failed; `take` says why
  };

  /// The secret is copied.
  Handshake(Role role, std::string_view secret, Card own);

  /// The caller's first bytes.
  void begin(std::vector<std::byte>& out);

  /// Takes what has arrived, in portions of any size, and appends what is to be sent in answer.
  /// `corrupt` for bytes that do not belong to this protocol, `denied` for a wrong proof (also if
  /// the other end says so). What was appended is to be sent even then: it may be the refusal.
  Result<> take(std::span<const std::byte> in, std::vector<std::byte>& out);

  [[nodiscard]] Stage stage() const noexcept { return stage_; }
  [[nodiscard]] Role role() const noexcept { return role_; }
  [[nodiscard]] const Card& own() const noexcept { return own_; }
  /// The other end's card: from `heard` (answerer) or `agreed` (caller) on.
  [[nodiscard]] const Card& peer() const noexcept { return peer_; }
  /// 32 bytes that both ends of this contact, and nobody else, know; likewise.
  [[nodiscard]] Digest binding() const noexcept;

 private:
  enum class Kind : std::uint16_t {
    greeting = 1,
    challenge,
    introduction,
    acceptance,
    refusal,
    ready
  };

  [[nodiscard]] Digest proof_of(Role prover, const Card& card) const noexcept;
  void put_frame(Kind kind, std::span<const std::byte> body, std::vector<std::byte>& out) const;
  void put_card(Kind kind, std::vector<std::byte>& out) const;
  Result<> take_frame(Kind kind, std::span<const std::byte> body, std::vector<std::byte>& out);
  Result<> take_nonce(Kind kind, std::span<const std::byte> body, std::vector<std::byte>& out);
  Result<> take_card(std::span<const std::byte> body, std::vector<std::byte>& out);
  Result<> broken(Errc code, std::string_view why) noexcept;

  Role role_;
  Stage stage_ = Stage::hello;
  std::string secret_;
  Card own_;
  Card peer_;
  Digest nonces_[2]{};  ///< the caller's, the answerer's
  std::vector<std::byte> input_;
};

}  // namespace membrain
