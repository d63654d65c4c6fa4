// The kernels, for GPUs. Compiled to PTX by clang alone, without the CUDA toolkit or any header of
// it (docs/adr/0021).
#include "transport/cuda/kernels.h"

#define MEMBRAIN_KERNEL extern "C" __attribute__((global)) void

using namespace membrain::cuda::kernel;

namespace {
__attribute__((device)) inline U32 block_index() {
  return static_cast<U32>(__nvvm_read_ptx_sreg_ctaid_x());
}
__attribute__((device)) inline U32 block_row() {
  return static_cast<U32>(__nvvm_read_ptx_sreg_ctaid_y());
}
__attribute__((device)) inline U32 block_size() {
  return static_cast<U32>(__nvvm_read_ptx_sreg_ntid_x());
}
__attribute__((device)) inline U32 thread_index() {
  return static_cast<U32>(__nvvm_read_ptx_sreg_tid_x());
}
}  // namespace

/// A block of kCopyThreads threads for each chunk.
MEMBRAIN_KERNEL membrain_copy_chunks(const Chunk* chunks) {
  copy_chunk(chunks[block_index()], thread_index());
}

/// A row of blocks for each input; a thread for each pair of lanes of its blocks.
MEMBRAIN_KERNEL membrain_hash_chunks(const HashInput* inputs, const U64* secret) {
  const HashInput input = inputs[block_row()];
  const U64 thread = static_cast<U64>(block_index()) * block_size() + thread_index();
  const U64 block = thread / kPairs;
  if (block <= whole_blocks(input.bytes)) {
    hash_chunk(input, block, static_cast<U32>(thread % kPairs), secret);
  }
}

/// A block of kLanes threads for each input; `results` has kLanes words for each.
MEMBRAIN_KERNEL membrain_hash_chains(const HashInput* inputs, const U64* start, const U64* secret,
                                     U64* results) {
  const U32 lane = thread_index();
  results[U64{block_index()} * kLanes + lane] =
      hash_lane(inputs[block_index()], lane, start[lane], secret);
}
