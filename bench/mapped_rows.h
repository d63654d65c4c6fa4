// Rows of transfer_bench for what is read from a mapped arena.
#pragma once

namespace membrain {

/// fetch_mapped/BYTES and fetch_mapped_verified/BYTES: one blocking call fetches the whole batch,
/// on the calling thread. memcpy/BYTES: the same blocks of the same arena, block by block, to the
/// same place. fetch_view/b16: views of 16 blocks, hashing declined; the counters p50_us and p99_us
/// are of one batch, with its `finish`.
void register_mapped_rows();

}  // namespace membrain
