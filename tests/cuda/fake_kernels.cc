#include "tests/cuda/fake_kernels.h"

#include "transport/cuda/kernels.h"

namespace membrain::cuda {
namespace {

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

void run_copy(const Address* arguments, std::uint32_t blocks, std::uint32_t,
              std::uint32_t threads) {
  const auto* const chunks = at<const kernel::Chunk>(arguments[0]);
  for (std::uint32_t block = 0; block < blocks; ++block) {
    for (std::uint32_t thread = 0; thread < threads; ++thread) {
      kernel::copy_chunk(chunks[block], thread);
    }
  }
}

void run_hash_chunks(const Address* arguments, std::uint32_t blocks, std::uint32_t rows,
                     std::uint32_t threads) {
  const auto* const inputs = at<const kernel::HashInput>(arguments[0]);
  const auto* const secret = at<const kernel::U64>(arguments[1]);
  for (std::uint32_t row = 0; row < rows; ++row) {
    for (std::uint64_t thread = 0; thread < std::uint64_t{blocks} * threads; ++thread) {
      const std::uint64_t block = thread / kernel::kPairs;
      if (block > kernel::whole_blocks(inputs[row].bytes)) continue;
      kernel::hash_chunk(inputs[row], block, static_cast<kernel::U32>(thread % kernel::kPairs),
                         secret);
    }
  }
}

void run_hash_chains(const Address* arguments, std::uint32_t blocks, std::uint32_t,
                     std::uint32_t threads) {
  const auto* const inputs = at<const kernel::HashInput>(arguments[0]);
  const auto* const start = at<const kernel::U64>(arguments[1]);
  const auto* const secret = at<const kernel::U64>(arguments[2]);
  auto* const results = at<kernel::U64>(arguments[3]);
  for (std::uint32_t block = 0; block < blocks; ++block) {
    for (std::uint32_t lane = 0; lane < threads; ++lane) {
      results[std::uint64_t{block} * kernel::kLanes + lane] =
          kernel::hash_lane(inputs[block], lane, start[lane], secret);
    }
  }
}

Func copy_chunks{1, run_copy};
Func hash_chunks{2, run_hash_chunks};
Func hash_chains{4, run_hash_chains};

}  // namespace

Function fake::kernel_named(std::string_view name) {
  return name == "membrain_copy_chunks"   ? &copy_chunks
         : name == "membrain_hash_chunks" ? &hash_chunks
                                          : &hash_chains;
}

}  // namespace membrain::cuda
