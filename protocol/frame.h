// The frame: what every message starts with. docs/protocol.md lists the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/codec.h"
#include "base/ids.h"
#include "membrain/result.h"

namespace membrain::wire {

inline constexpr std::uint32_t kMagic = 0x314e424d;  ///< "MBN1" in memory order
inline constexpr std::uint8_t kVersion = 1;
inline constexpr std::size_t kHeaderBytes = 36;

/// Every kind of message. Numbers are for ever.
enum class Type : std::uint8_t {
  refused = 1,  ///< the answer to anything that could not be taken: Refused
  hello = 2,
  welcome = 3,
  open_namespace = 4,
  namespace_opened = 5,
  heartbeat = 6,
  alive = 7,
  lookup = 8,
  found = 9,
  unpin = 10,
  unpinned = 11,
  grant = 12,
  granted = 13,
  clear = 14,
  cleared = 15,
  stats = 16,
  stats_reply = 17,
  nodes = 18,
  node_list = 19,
  probe_parts = 20,
  probed_parts = 21,
  shards = 22,
  shard_list = 23,

  fetch = 32,
  data = 33,
  cancel_fetch = 34,
  store = 35,
  stored = 36,
  suspect = 37,
  suspect_noted = 38,
  reserve_slots = 39,
  reserved_slots = 40,
  seal_slots = 41,  ///< answered by stored
  give_back_slots = 42,
  open_window = 43,
  window_opened = 44,

  register_node = 64,
  accepted = 65,
  publish = 66,
  published = 67,
  need_slots = 68,
  free_slots = 69,  ///< answers need_slots, and comes unasked (op 0)
  freed = 70,
  freed_noted = 71,
  report = 72,
  reported = 73,
  corrupt = 74,
  corrupt_noted = 75,
  node_heartbeat = 76,
  node_alive = 77,
  copy_blocks = 80,  ///< comes unasked (op 0)
  copies_ended = 81,
  copies_noted = 82,
  leave = 83,
  leaving = 84,

  group_hello = 96,  ///< not answered
  group_offer = 97,
  group_blocks = 98,
  group_done = 99,
  group_propose = 100,
  group_answer = 101,
  group_go = 102,
};

/// A bit of Header::flags in a fetch: the reader receives into a GPU's memory whatever the other
/// end sends from one. Whoever does not know it sends from the host's memory.
inline constexpr std::uint16_t kIntoDevice = 1;

/// The fixed part. `op` pairs a reply with its request (the reply repeats it); `epoch` is the
/// sender's knowledge of the shard's epoch, 0 if none.
struct Header {
  Type type = Type::refused;
  std::uint16_t flags = 0;  ///< kIntoDevice; others are written 0, ignored when read
  OpId op;
  ShardId shard;
  Epoch epoch;
};

/// A decoded header and the body behind it. The body points into the frame.
struct Frame {
  Header header;
  std::span<const std::byte> body;
};

/// `corrupt` when magic, version or lengths are wrong: the connection is to be closed then. The
/// type may be one that this build does not know: answer `Refused`.
[[nodiscard]] Result<Frame> read_frame(std::span<const std::byte> bytes) noexcept;

/// Writes header and body (`message.encode`) over `out`, which is cleared first and can be used
/// again.
template <class Message>
std::span<const std::byte> write_frame(std::vector<std::byte>& out, Header header,
                                       const Message& message);

namespace detail {
void begin_frame(std::vector<std::byte>& out, const Header& header);
void end_frame(std::vector<std::byte>& out) noexcept;
}  // namespace detail

template <class Message>
std::span<const std::byte> write_frame(std::vector<std::byte>& out, Header header,
                                       const Message& message) {
  header.type = Message::kType;
  detail::begin_frame(out, header);
  Writer writer(out);
  message.encode(writer);
  detail::end_frame(out);
  return out;
}

/// Decodes a body over `message`, whose lists keep their memory. Trailing bytes that this build
/// does not know are skipped. `corrupt` if it does not fit its bounds; `message` is undefined then.
template <class Message>
[[nodiscard]] Result<> read_body_into(std::span<const std::byte> body, Message& message) {
  Reader reader(body);
  message.decode(reader);
  if (!reader.ok()) return fail(Errc::corrupt, "a message body does not fit its bounds");
  return {};
}

/// The same into a new one.
template <class Message>
[[nodiscard]] Result<Message> read_body(std::span<const std::byte> body) {
  Message message;
  if (const Result<> read = read_body_into(body, message); !read) return fail(read.error());
  return message;
}

}  // namespace membrain::wire
