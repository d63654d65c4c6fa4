#include "transport/cuda/checksum.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "transport/cuda/kernels.h"

namespace membrain::cuda {

using kernel::HashInput;
using kernel::kBlockBytes;
using kernel::kLanes;
using kernel::kSecretWords;

namespace {

// Source  XXH3 specification: the default secret, the accumulators' initial values, primes.
constexpr std::array<std::uint64_t, kSecretWords> kSecret{
    0xBE4BA423396CFEB8, 0x1CAD21F72C81017C, 0xDB979083E96DD4DE, 0x1F67B3B7A4A44072,
    0x78E5C0CC4EE679CB, 0x2172FFCC7DD05A82, 0x8E2443F7744608B8, 0x4C263A81E69035E0,
    0xCB00C391BB52283C, 0xA32E531B8B65D088, 0x4EF90DA297486471, 0xD8ACDEA946EF1938,
    0x3F349CE33F76FAA8, 0x1D4F0BC7C7BBDCF9, 0x3159B4CD4BE0518A, 0x647378D9C97E9FC8,
    0xC3EBD33483ACC5EA, 0xEB6313FAFFA081C5, 0x49DAF0B751DD0D17, 0x9E68D429265516D3,
    0xFCA1477D58BE162B, 0xCE31D07AD1B8F88F, 0x280416958F3ACB45, 0x7E404BBBCAFBD7AF};
constexpr std::uint64_t kPrime64_1 = 0x9E3779B185EBCA87;
constexpr std::uint64_t kPrime64_2 = 0xC2B2AE3D27D4EB4F;
constexpr std::array<std::uint64_t, kLanes> kStart{
    0xC2B2AE3D,         kPrime64_1, kPrime64_2,         0x165667B19E3779F9,
    0x85EBCA77C2B2AE63, 0x85EBCA77, 0x27D4EB2F165667C5, 0x9E3779B1};

constexpr std::uint32_t kThreads = 256;

/// What the kernels read, as it lies in one buffer.
struct Input {
  std::array<std::uint64_t, kSecretWords> secret;
  std::array<std::uint64_t, kLanes> start;
  std::array<HashInput, DeviceHasher::kMaxInputs> inputs;
};
/// And what they make of it.
struct Output {
  std::array<std::array<std::uint64_t, kLanes>, DeviceHasher::kMaxInputs> lanes;
};

std::uint64_t word_of_secret(std::size_t byte) noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, reinterpret_cast<const std::byte*>(kSecret.data()) + byte, sizeof(word));
  return word;
}

std::uint64_t folded(std::uint64_t a, std::uint64_t b) noexcept {
  using Wide = unsigned __int128;
  const Wide whole = Wide{a} * b;
  return static_cast<std::uint64_t>(whole) ^ static_cast<std::uint64_t>(whole >> 64);
}

std::uint64_t merged(std::span<const std::uint64_t, kLanes> lanes, std::size_t secret,
                     std::uint64_t start) noexcept {
  std::uint64_t sum = start;
  for (std::size_t i = 0; i < kLanes; i += 2) {
    sum += folded(lanes[i] ^ word_of_secret(secret + 8 * i),
                  lanes[i + 1] ^ word_of_secret(secret + 8 * i + 8));
  }
  sum ^= sum >> 37;
  sum *= 0x165667919E3779F9;
  return sum ^ sum >> 32;
}

}  // namespace

Checksum merge_lanes(std::span<const std::uint64_t, 8> lanes, std::uint64_t bytes) noexcept {
  constexpr std::size_t kSecretAtMerge = 11;
  constexpr std::size_t kLast = sizeof(kSecret) - sizeof(kStart) - kSecretAtMerge;
  return {merged(lanes, kSecretAtMerge, bytes * kPrime64_1),
          merged(lanes, kLast, ~(bytes * kPrime64_2))};
}

Result<DeviceHasher> DeviceHasher::create(std::shared_ptr<const Device> device,
                                          std::uint64_t most_bytes) {
  Result<PinnedBuffer> host = PinnedBuffer::allocate(device, sizeof(Input) + sizeof(Output));
  if (!host) return fail(host.error());
  Result<DeviceBuffer> table = DeviceBuffer::allocate(device, sizeof(Input));
  if (!table) return fail(table.error());
  const std::uint64_t sums =
      sizeof(Output) + (most_bytes / kBlockBytes + kMaxInputs) * sizeof(kStart);
  Result<DeviceBuffer> room = DeviceBuffer::allocate(std::move(device), sums);
  if (!room) return fail(room.error());
  auto* const input = reinterpret_cast<Input*>(host->bytes().data());
  input->secret = kSecret;
  input->start = kStart;
  return DeviceHasher(std::move(*host), std::move(*table), std::move(*room));
}

/// Writes the table.
Result<> DeviceHasher::plan(std::span<const DeviceBytes> inputs, std::uint64_t& most_blocks) {
  if (inputs.size() > kMaxInputs) return fail(Errc::invalid_argument, "too many blocks to hash");
  auto* const table = reinterpret_cast<Input*>(host_.bytes().data())->inputs.data();
  lengths_.clear();
  std::uint64_t used = sizeof(Output);
  for (const DeviceBytes& bytes : inputs) {
    if (bytes.bytes < kMinBytes || bytes.address % kernel::kVectorBytes != 0) {
      return fail(Errc::invalid_argument, "a block to hash is too short, or not aligned to 16");
    }
    const std::uint64_t blocks = kernel::whole_blocks(bytes.bytes) + 1;
    const std::uint64_t room = blocks * sizeof(kStart);
    if (room > sums_.size() - used) {
      return fail(Errc::invalid_argument, "more bytes to hash than the hasher was made for");
    }
    table[lengths_.size()] = {bytes.address, bytes.bytes, sums_.address() + used};
    lengths_.push_back(bytes.bytes);
    used += room;
    most_blocks = std::max(most_blocks, blocks);
  }
  return {};
}

Result<> DeviceHasher::start(Stream& stream, std::span<const DeviceBytes> inputs) {
  std::uint64_t most_blocks = 0;
  if (const Result<> planned = plan(inputs, most_blocks); !planned) return planned;
  if (inputs.empty()) return {};
  const auto count = static_cast<std::uint32_t>(inputs.size());
  const std::size_t table_bytes = offsetof(Input, inputs) + count * sizeof(HashInput);
  if (const Result<> told = stream.copy(device_.address(), host_.address(), table_bytes); !told) {
    return told;
  }
  Address secret = device_.address() + offsetof(Input, secret);
  Address start = device_.address() + offsetof(Input, start);
  Address table = device_.address() + offsetof(Input, inputs);
  const Device::Kernels& kernels = stream.device().kernels();
  const std::uint64_t threads = most_blocks * kernel::kPairs;
  const auto groups = static_cast<std::uint32_t>((threads + kThreads - 1) / kThreads);
  std::array<void*, 2> chunk_arguments{&table, &secret};
  Result<> queued =
      stream.launch(kernels.hash_chunks, groups, count, kThreads, chunk_arguments.data());
  if (!queued) return queued;
  Address results = sums_.address();
  std::array<void*, 4> chain_arguments{&table, &start, &secret, &results};
  queued = stream.launch(kernels.hash_chains, count, 1, kLanes, chain_arguments.data());
  if (!queued) return queued;
  return stream.copy(host_.address() + sizeof(Input), results, count * sizeof(kStart));
}

std::span<const std::byte> DeviceHasher::host_states() const noexcept {
  static_assert(kStateBytes == sizeof(kStart));
  return std::span<const std::byte>(host_.bytes())
      .subspan(sizeof(Input), lengths_.size() * kStateBytes);
}

std::vector<Checksum> DeviceHasher::finish() const {
  const auto* const output = reinterpret_cast<const Output*>(host_.bytes().data() + sizeof(Input));
  std::vector<Checksum> sums;
  sums.reserve(lengths_.size());
  for (std::size_t i = 0; i < lengths_.size(); ++i) {
    sums.push_back(merge_lanes(output->lanes[i], lengths_[i]));
  }
  return sums;
}

}  // namespace membrain::cuda
