#include "protocol/frame.h"

#include <cstring>

namespace membrain::wire {

namespace {
constexpr std::size_t kBodySizeOffset = 32;
}

Result<Frame> read_frame(std::span<const std::byte> bytes) noexcept {
  Reader in(bytes);
  std::uint32_t magic = 0;
  std::uint8_t version = 0;
  std::uint8_t type = 0;
  std::uint32_t body_bytes = 0;
  Frame frame;
  in.get(magic), in.get(version), in.get(type), in.get(frame.header.flags);
  in.get(frame.header.op), in.get(frame.header.shard);
  std::uint32_t reserved = 0;
  in.get(reserved);
  in.get(frame.header.epoch), in.get(body_bytes);
  if (!in.ok()) return fail(Errc::corrupt, "a frame is shorter than its header");
  if (magic != kMagic) return fail(Errc::corrupt, "a frame has the wrong magic");
  if (version != kVersion) return fail(Errc::corrupt, "a frame has an unknown version");
  if (body_bytes != in.left()) return fail(Errc::corrupt, "a frame's length is not its body's");
  frame.header.type = static_cast<Type>(type);
  frame.body = bytes.subspan(kHeaderBytes);
  return frame;
}

namespace detail {

void begin_frame(std::vector<std::byte>& out, const Header& header) {
  out.clear();
  Writer writer(out);
  writer.put(kMagic), writer.put(kVersion), writer.put(header.type), writer.put(header.flags);
  writer.put(header.op), writer.put(header.shard), writer.put(std::uint32_t{0});
  writer.put(header.epoch), writer.put(std::uint32_t{0});
}

void end_frame(std::vector<std::byte>& out) noexcept {
  const auto body_bytes = static_cast<std::uint32_t>(out.size() - kHeaderBytes);
  std::memcpy(out.data() + kBodySizeOffset, &body_bytes, sizeof body_bytes);
}

}  // namespace detail
}  // namespace membrain::wire
