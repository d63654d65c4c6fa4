// Our kernels as the fake driver runs them: thread by thread, on the host.
#pragma once

#include <cstdint>
#include <string_view>

#include "transport/cuda/api.h"

// The type behind the driver's handle.
namespace membrain::cuda {
struct Func {
  std::uint32_t arguments;
  void (*run)(const Address* arguments, std::uint32_t blocks, std::uint32_t rows,
              std::uint32_t threads);
};
}  // namespace membrain::cuda

namespace membrain::cuda::fake {

[[nodiscard]] Function kernel_named(std::string_view name);

}  // namespace membrain::cuda::fake
