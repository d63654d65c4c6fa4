// First contact as bytes in and bytes out.
#include "transport/ucx/handshake.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <utility>
#include <vector>

namespace membrain {
namespace {

using Stage = Handshake::Stage;
using Bytes = std::vector<std::byte>;

Card card(std::uint64_t token, std::size_t address_bytes = 300) {
  return {token, token * 10, Bytes(address_bytes, static_cast<std::byte>(token))};
}

/// Both ends, and what is on its way between them.
struct Ends {
  explicit Ends(std::string_view secret_a = "secret", std::string_view secret_b = "secret")
      : caller(Handshake::Role::caller, secret_a, card(1)),
        answerer(Handshake::Role::answerer, secret_b, card(2)) {
    caller.begin(to_answerer);
  }
  /// Moves all there is, in portions of `portion` bytes; what `take` said at either end.
  void run(std::size_t portion = 1 << 20) {
    for (int i = 0; i < 10; ++i) {
      feed(answerer, to_answerer, to_caller, portion, answered);
      feed(caller, to_caller, to_answerer, portion, called);
    }
  }
  static void feed(Handshake& end, Bytes& in, Bytes& out, std::size_t portion, Result<>& outcome) {
    const Bytes taken = std::exchange(in, {});
    for (std::size_t at = 0; at < taken.size() && outcome; at += portion) {
      const std::size_t size = std::min(portion, taken.size() - at);
      outcome = end.take(std::span(taken).subspan(at, size), out);
    }
  }

  Handshake caller;
  Handshake answerer;
  Bytes to_answerer;
  Bytes to_caller;
  Result<> called;
  Result<> answered;
};

TEST(Handshake, GivesBothEndsTheOthersCardAndOneBinding) {
  Ends ends;
  ends.run();
  EXPECT_EQ(ends.caller.stage(), Stage::agreed);
  EXPECT_EQ(ends.answerer.stage(), Stage::agreed);
  EXPECT_EQ(ends.caller.peer().token, 2u);
  EXPECT_EQ(ends.caller.peer().fabric, 20u);
  EXPECT_EQ(ends.answerer.peer().token, 1u);
  EXPECT_EQ(ends.answerer.peer().address, card(1).address);
  EXPECT_EQ(ends.caller.binding(), ends.answerer.binding());
}

TEST(Handshake, BearsBytesThatComeOneByOne) {
  Ends ends;
  ends.run(1);
  EXPECT_EQ(ends.caller.stage(), Stage::agreed);
  EXPECT_EQ(ends.answerer.stage(), Stage::agreed);
}

TEST(Handshake, HasANewBindingEveryTime) {
  Ends first;
  Ends second;
  first.run();
  second.run();
  EXPECT_NE(first.caller.binding(), second.caller.binding());
}

TEST(Handshake, WorksWithoutASecretAndFailsIfOnlyOneEndHasNone) {
  Ends open("", "");
  open.run();
  EXPECT_EQ(open.caller.stage(), Stage::agreed);
  Ends mixed("", "secret");
  mixed.run();
  EXPECT_EQ(mixed.answered.error().code, Errc::denied);
}

TEST(Handshake, IsDeniedAtBothEndsForAnotherSecret) {
  Ends ends("secret", "another");
  ends.run();
  EXPECT_EQ(ends.answered.error().code, Errc::denied);
  EXPECT_EQ(ends.called.error().code, Errc::denied);
}

TEST(Handshake, IsNotHeardAgainByAReplay) {
  Ends ends;
  Bytes recorded = ends.to_answerer;
  ends.run();
  Ends later;
  later.run();  // an answerer with another nonce
  Handshake answerer(Handshake::Role::answerer, "secret", card(2));
  Bytes out;
  ASSERT_TRUE(answerer.take(recorded, out));
  // The introduction that fitted another challenge.
  Ends third;
  Bytes challenge;
  ASSERT_TRUE(third.answerer.take(third.to_answerer, challenge));
  Bytes introduction;
  ASSERT_TRUE(third.caller.take(challenge, introduction));
  EXPECT_EQ(answerer.take(introduction, out).error().code, Errc::denied);
}

TEST(Handshake, BelievesNoCardWithAChangedBit) {
  for (std::size_t bit = 0; bit < 600; ++bit) {
    Ends ends;
    Bytes challenge;
    ASSERT_TRUE(ends.answerer.take(ends.to_answerer, challenge));
    Bytes introduction;
    ASSERT_TRUE(ends.caller.take(challenge, introduction));
    const std::size_t at = bit * 7 % (introduction.size() * 8);
    introduction[at / 8] ^= static_cast<std::byte>(1u << (at % 8));
    Bytes out;
    const Result<> taken = ends.answerer.take(introduction, out);
    // A longer length leaves it waiting for more; nothing else goes on.
    EXPECT_TRUE(!taken || ends.answerer.stage() == Stage::proof) << at;
  }
}

TEST(Handshake, CallsJunkCorruptAtOnce) {
  const std::vector<Bytes> junk = {
      Bytes(1, std::byte{0}),
      Bytes(64, std::byte{0}),
      Bytes(64, std::byte{0xff}),
      Bytes(9000, std::byte{0x4d}),
      // Our magic, and a length of 4 GiB.
      {std::byte{0x4d}, std::byte{0x42}, std::byte{0x43}, std::byte{0x31}, std::byte{1},
       std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff},
       std::byte{0xff}}};
  for (const Bytes& bytes : junk) {
    for (const Handshake::Role role : {Handshake::Role::caller, Handshake::Role::answerer}) {
      Handshake end(role, "secret", card(1));
      Bytes out;
      EXPECT_EQ(end.take(bytes, out).error().code, Errc::corrupt);
      EXPECT_TRUE(out.empty());
    }
  }
}

TEST(Handshake, SurvivesRandomBytesAfterAValidStart) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    Ends ends;
    Bytes input = ends.to_answerer;
    const std::size_t kept = random() % (input.size() + 1);
    input.resize(kept);
    while (input.size() < kept + 100) input.push_back(static_cast<std::byte>(random() & 0xff));
    Bytes out;
    const Result<> taken = ends.answerer.take(input, out);
    EXPECT_TRUE(!taken || ends.answerer.stage() != Stage::agreed);
  }
}

TEST(Handshake, RefusesMessagesOutOfTurn) {
  Ends ends;
  Bytes greeting = ends.to_answerer;
  Bytes out;
  ASSERT_TRUE(ends.answerer.take(greeting, out));
  EXPECT_EQ(ends.answerer.take(greeting, out).error().code, Errc::corrupt);
  Ends after;
  after.run();
  EXPECT_EQ(after.answerer.take(greeting, out).error().code, Errc::corrupt);
}

}  // namespace
}  // namespace membrain
