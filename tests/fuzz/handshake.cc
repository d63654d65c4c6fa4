// First contact with an honest other end, whose bytes pass through somebody's hands: held back,
// cut, changed, or mixed with others. Whoever is believed is who was proven.
#include <algorithm>
#include <utility>
#include <vector>

#include "base/checksum.h"
#include "base/codec.h"
#include "tests/fuzz/target.h"
#include "transport/ucx/handshake.h"

namespace membrain::fuzz {
namespace {

using Bytes = std::vector<std::byte>;
constexpr std::size_t kMaxSteps = 64;

Card card_of(std::uint64_t number) {
  return {number, number + 1, Bytes(24 + number, static_cast<std::byte>(number))};
}

/// Both ends, and what is on the way between them.
class Contact {
 public:
  explicit Contact(Handshake::Role role)
      : ours_(role, "a secret", card_of(1)),
        theirs_(
            role == Handshake::Role::caller ? Handshake::Role::answerer : Handshake::Role::caller,
            "a secret", card_of(2)) {
    if (role == Handshake::Role::caller) {
      ours_.begin(to_them_);
    } else {
      theirs_.begin(to_us_);
    }
  }

  /// Lets one portion of it through, either way.
  void pass(std::size_t count) {
    deliver(take(to_us_, count));
    static_cast<void>(theirs_.take(take(to_them_, count), to_us_));
  }
  void flip(std::size_t at, std::byte with) {
    if (at >= to_us_.size() || with == std::byte{0}) return;
    to_us_[at] ^= with;
    touched_ = true;
  }
  void deliver_made(std::uint16_t kind, std::span<const std::byte> body) {
    touched_ = true;
    Bytes frame;
    Writer out(frame);
    out.put(Handshake::kMagic), out.put(kind), out.put(std::uint16_t{0});
    out.put(static_cast<std::uint32_t>(body.size()));
    out.raw(body.data(), body.size());
    const std::uint64_t sum = checksum(frame).low;
    out.put(sum);
    deliver(frame);
  }
  void deliver_raw(const Bytes& bytes) {
    touched_ = touched_ || !bytes.empty();
    deliver(bytes);
  }
  void finish() {
    for (int i = 0; i < 8; ++i) pass(SIZE_MAX);
    if (touched_) return;
    const bool agreed =
        ours_.stage() == Handshake::Stage::agreed && theirs_.stage() == Handshake::Stage::agreed;
    check(agreed && ours_.binding() == theirs_.binding(), "two honest ends do not agree");
  }

 private:
  static Bytes take(Bytes& from, std::size_t count) {
    const auto end = from.begin() + static_cast<std::ptrdiff_t>(std::min(count, from.size()));
    Bytes taken(from.begin(), end);
    from.erase(from.begin(), end);
    return taken;
  }
  void deliver(const Bytes& bytes) {
    const std::size_t said = to_them_.size();
    const bool broken = ours_.stage() == Handshake::Stage::broken;
    const Result<> taken = ours_.take(bytes, to_them_);
    check(!broken || !taken, "a broken contact went on");
    check(to_them_.size() - said <= 2 * Handshake::kMaxFrameBytes, "too much was said");
    const bool believed =
        ours_.stage() == Handshake::Stage::heard || ours_.stage() == Handshake::Stage::agreed;
    if (!believed) return;
    const Card& peer = ours_.peer();
    const Card& true_peer = theirs_.own();
    check(peer.token == true_peer.token && peer.fabric == true_peer.fabric &&
              peer.address == true_peer.address,
          "another card was believed than the one that was proven");
  }

  Handshake ours_;
  Handshake theirs_;
  Bytes to_us_;
  Bytes to_them_;
  bool touched_ = false;
};

Bytes some(Reader& in) {
  std::uint8_t count = 0;
  in.get(count);
  Bytes bytes(std::min<std::size_t>(count, in.left()));
  in.raw(bytes.data(), bytes.size());
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reader in(bytes_of(data, size));
  std::uint8_t role = 0;
  in.get(role);
  Contact contact(role % 2 == 0 ? Handshake::Role::caller : Handshake::Role::answerer);
  for (std::size_t step = 0; step < kMaxSteps && in.left() > 0; ++step) {
    std::uint8_t action = 0;
    std::uint8_t number = 0;
    std::uint8_t with = 0;
    in.get(action), in.get(number);
    switch (action % 4) {
      case 0:
        contact.pass(number == 0xff ? SIZE_MAX : number);
        break;
      case 1:
        in.get(with);
        contact.flip(number, std::byte{with});
        break;
      case 2:
        contact.deliver_made(static_cast<std::uint16_t>(number % 8), some(in));
        break;
      default:
        contact.deliver_raw(some(in));
    }
  }
  contact.finish();
  return 0;
}

}  // namespace membrain::fuzz
