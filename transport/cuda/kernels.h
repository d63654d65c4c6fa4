// What our kernels do, a thread's share each. Compiled for GPUs by kernels.cu, and for the host by
// the tests, which run the same lines there. Includes nothing: no headers exist on that side.
#pragma once

#if defined(__CUDA__)
#define MEMBRAIN_KERNEL_PART __attribute__((device)) inline
#define MEMBRAIN_UNROLL _Pragma("unroll")
#else
#define MEMBRAIN_KERNEL_PART inline
#define MEMBRAIN_UNROLL
#endif

namespace membrain::cuda::kernel {

using U32 = unsigned int;
using U64 = unsigned long long;

/// A run of bytes to copy; no run is longer than kChunkBytes. Addresses that this GPU can read and
/// write.
struct Chunk {
  U64 to;
  U64 from;
  U64 bytes;
};

constexpr U32 kCopyThreads = 256;  // of a block
constexpr U32 kVectorBytes = 16;
constexpr U32 kUnroll = 8;
/// A block copies one chunk in one sweep: every thread has eight loads under way.
constexpr U32 kChunkBytes = kCopyThreads * kVectorBytes * kUnroll;

/// 16 bytes, moved by one instruction.
using Vector __attribute__((vector_size(kVectorBytes))) = U64;

/// Copies thread `thread`'s share of a chunk: 16 bytes at a time if everything is aligned to that.
MEMBRAIN_KERNEL_PART void copy_chunk(const Chunk& chunk, U32 thread) {
  if (((chunk.to | chunk.from | chunk.bytes) % kVectorBytes) != 0) {
    auto* const to = reinterpret_cast<unsigned char*>(chunk.to);
    const auto* const from = reinterpret_cast<const unsigned char*>(chunk.from);
    for (U64 i = thread; i < chunk.bytes; i += kCopyThreads) to[i] = from[i];
    return;
  }
  auto* const to = reinterpret_cast<Vector*>(chunk.to);
  const auto* const from = reinterpret_cast<const Vector*>(chunk.from);
  const U64 vectors = chunk.bytes / kVectorBytes;
  Vector held[kUnroll];
  MEMBRAIN_UNROLL
  for (U32 i = 0; i < kUnroll; ++i) {
    const U64 at = U64{i} * kCopyThreads + thread;
    if (at < vectors) held[i] = from[at];
  }
  MEMBRAIN_UNROLL
  for (U32 i = 0; i < kUnroll; ++i) {
    const U64 at = U64{i} * kCopyThreads + thread;
    if (at < vectors) to[at] = held[i];
  }
}

// ---- XXH3-128
//
// Source  The XXH3 specification (doc/xxhash_spec.md of xxHash 0.8.2), inputs of more than 240
//         bytes, seed 0. Names as there: a stripe is 64 bytes, a block 16 stripes; eight
//         accumulators ("lanes").
//
// Within a block the accumulators are sums, in any order; only the scramble between blocks is a
// chain. So one kernel makes the sums of all blocks at once (`hash_chunk`: a thread makes two lanes
// of one block), and a second one walks the chain over 64 bytes per KiB (`hash_lane`: a thread is a
// lane of one input).

constexpr U32 kLanes = 8;
constexpr U32 kStripeBytes = 64;
constexpr U32 kStripes = 16;  // of a block, with the 192 bytes of the standard secret
constexpr U32 kBlockBytes = kStripes * kStripeBytes;
constexpr U32 kSecretWords = 24;
constexpr U32 kSecretBytes = 8 * kSecretWords;
constexpr U32 kPrime32_1 = 0x9E3779B1U;
constexpr U32 kPairs = kLanes / 2;  // of lanes in a stripe: a thread each

/// One input to hash: more than 240 bytes, its address a multiple of 16. `sums` has room for
/// kLanes words for each whole block, and kLanes more.
struct HashInput {
  U64 from;
  U64 bytes;
  U64 sums;
};

/// Whole blocks before the last stripes.
MEMBRAIN_KERNEL_PART U64 whole_blocks(U64 bytes) {
  return (bytes - 1) / kBlockBytes;
}
/// A multiplication of the spec's accumulate.
MEMBRAIN_KERNEL_PART U64 product(U64 keyed) {
  return (keyed & 0xFFFFFFFFULL) * (keyed >> 32);
}

/// Adds lanes 2*pair and 2*pair+1 of one stripe.
MEMBRAIN_KERNEL_PART void add_stripe(Vector data, U64 even_key, U64 odd_key, U64& even, U64& odd) {
  even += product(data[0] ^ even_key) + data[1];
  odd += product(data[1] ^ odd_key) + data[0];
}

/// A word of an address that is aligned to nothing.
MEMBRAIN_KERNEL_PART U64 word_at(U64 address) {
  const auto* const bytes = reinterpret_cast<const unsigned char*>(address);
  U64 word = 0;
  for (U32 i = 0; i < 8; ++i) word |= static_cast<U64>(bytes[i]) << (8 * i);
  return word;
}

/// Word of the secret at a byte that is no multiple of 8.
MEMBRAIN_KERNEL_PART U64 secret_at(const U64* secret, U32 byte) {
  const U32 word = byte / 8;
  const U32 shift = 8 * (byte % 8);
  return shift == 0 ? secret[word] : secret[word] >> shift | secret[word + 1] << (64 - shift);
}

/// The last stripes of an input: those after its whole blocks, and its last 64 bytes, which may
/// overlap them.
MEMBRAIN_KERNEL_PART void add_end(const HashInput& input, const Vector* from, U32 pair,
                                  const U64* secret, U64& even, U64& odd) {
  const U64 left = input.bytes - 1 - whole_blocks(input.bytes) * kBlockBytes;
  for (U32 i = 0; i < left / kStripeBytes; ++i) {
    add_stripe(from[i * kPairs + pair], secret[i + 2 * pair], secret[i + 2 * pair + 1], even, odd);
  }
  constexpr U32 kLastSecret = kSecretBytes - kStripeBytes - 7;
  const U64 at = input.from + input.bytes - kStripeBytes + 16 * pair;
  add_stripe(Vector{word_at(at), word_at(at + 8)}, secret_at(secret, kLastSecret + 16 * pair),
             secret_at(secret, kLastSecret + 16 * pair + 8), even, odd);
}

/// Sums of one block of an input, two lanes.
MEMBRAIN_KERNEL_PART void hash_chunk(const HashInput& input, U64 block, U32 pair,
                                     const U64* secret) {
  const auto* const from = reinterpret_cast<const Vector*>(input.from + block * kBlockBytes);
  U64 even = 0;
  U64 odd = 0;
  if (block == whole_blocks(input.bytes)) {
    add_end(input, from, pair, secret, even, odd);
  } else {
    MEMBRAIN_UNROLL
    for (U32 i = 0; i < kStripes; ++i) {
      add_stripe(from[i * kPairs + pair], secret[i + 2 * pair], secret[i + 2 * pair + 1], even,
                 odd);
    }
  }
  auto* const sums = reinterpret_cast<U64*>(input.sums) + block * kLanes + 2 * pair;
  sums[0] = even;
  sums[1] = odd;
}

/// Sums of one lane, of the blocks from `block` on that there are.
template <U32 kCount>
MEMBRAIN_KERNEL_PART void load_sums(const U64* sums, U64 block, U64 blocks, U64 (&into)[kCount]) {
  MEMBRAIN_UNROLL
  for (U32 i = 0; i < kCount; ++i) into[i] = block + i < blocks ? sums[(block + i) * kLanes] : 0;
}

/// Walks the chain of one lane from its initial value; returns its accumulator.
MEMBRAIN_KERNEL_PART U64 hash_lane(const HashInput& input, U32 lane, U64 start, const U64* secret) {
  const auto* const sums = reinterpret_cast<const U64*>(input.sums) + lane;
  const U64 blocks = whole_blocks(input.bytes);
  const U64 key = secret[kSecretWords - kLanes + lane];
  U64 lane_sum = start;
  constexpr U32 kAhead = 16;  // loads under way, while as many that have come are added
  U64 come[kAhead];
  U64 coming[kAhead];
  load_sums<kAhead>(sums, 0, blocks, come);
  for (U64 block = 0; block < blocks; block += kAhead) {
    load_sums<kAhead>(sums, block + kAhead, blocks, coming);
    MEMBRAIN_UNROLL
    for (U32 i = 0; i < kAhead; ++i) {
      if (block + i >= blocks) continue;
      lane_sum += come[i];
      lane_sum = (lane_sum ^ lane_sum >> 47 ^ key) * kPrime32_1;
    }
    MEMBRAIN_UNROLL
    for (U32 i = 0; i < kAhead; ++i) come[i] = coming[i];
  }
  return lane_sum + sums[blocks * kLanes];
}

}  // namespace membrain::cuda::kernel
