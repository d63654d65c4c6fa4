// Every message: a type, then a body. What is taken in comes out again as the same bytes.
#include <array>
#include <tuple>
#include <type_traits>
#include <vector>

#include "protocol/frame.h"
#include "tests/fuzz/target.h"
#include "tests/protocol/samples.h"

namespace membrain::fuzz {
namespace {

/// A message must be no larger than what it was read from, and stay what it is.
template <class Message>
void round_trip(std::span<const std::byte> body) {
  const Result<Message> message = wire::read_body<Message>(body);
  if (!message) return;
  if constexpr (std::is_same_v<Message, wire::Refused>) {
    check(to_string(message->code) != "unknown", "a code that does not exist was taken in");
  }
  const std::vector<std::byte> once = wire::encoded(*message);
  check(once.size() <= body.size(), "a message is larger than what it was read from");
  const Result<Message> again = wire::read_body<Message>(once);
  check(again.has_value(), "what was written cannot be read");
  check(wire::encoded(*again) == once, "a message changed between reading and writing");
}

template <class... Messages>
void take(wire::Type type, std::span<const std::byte> body, std::tuple<Messages...>*) {
  static_cast<void>(
      ((Messages::kType == type ? (round_trip<Messages>(body), true) : false) || ...));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  constexpr wire::EveryMessageIn<std::tuple>* kAll = nullptr;
  take(static_cast<wire::Type>(data[0]), bytes_of(data, size).subspan(1), kAll);
  return 0;
}

}  // namespace membrain::fuzz
