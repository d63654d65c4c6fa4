// Frames, as they came and with magic, version and length put right.
#include <algorithm>
#include <cstring>
#include <vector>

#include "protocol/frame.h"
#include "tests/fuzz/target.h"

namespace membrain::fuzz {
namespace {

constexpr std::size_t kReserved = 20;  ///< four bytes that are written 0 and skipped when read

void read(std::span<const std::byte> bytes) {
  const Result<wire::Frame> frame = wire::read_frame(bytes);
  if (!frame) return;
  check(frame->body.size() + wire::kHeaderBytes == bytes.size(), "a body of another length");
  check(frame->body.empty() || frame->body.data() == bytes.data() + wire::kHeaderBytes,
        "a body that lies elsewhere");
  std::vector<std::byte> written;
  wire::detail::begin_frame(written, frame->header);
  written.insert(written.end(), frame->body.begin(), frame->body.end());
  wire::detail::end_frame(written);
  std::vector<std::byte> expected(bytes.begin(), bytes.end());
  std::fill_n(expected.begin() + kReserved, 4, std::byte{0});
  check(written == expected, "a frame changed between reading and writing");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes = bytes_of(data, size);
  read(bytes);
  if (size < wire::kHeaderBytes) return 0;
  std::vector<std::byte> mended(bytes.begin(), bytes.end());
  const auto body_bytes = static_cast<std::uint32_t>(size - wire::kHeaderBytes);
  std::memcpy(mended.data(), &wire::kMagic, sizeof wire::kMagic);
  mended[4] = std::byte{wire::kVersion};
  std::memcpy(mended.data() + 32, &body_bytes, sizeof body_bytes);
  check(wire::read_frame(mended).has_value(), "a sound frame was refused");
  read(mended);
  return 0;
}

}  // namespace membrain::fuzz
